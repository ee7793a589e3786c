"""Rollouts: plans, the draw of the arms, evidence, verdicts, and the machine that follows from them. Pure."""
