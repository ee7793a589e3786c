"""Retraining jobs: commands that are run, and what follows from how a job ended."""
