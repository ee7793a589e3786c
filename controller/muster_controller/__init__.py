"""The controller: registry, fleet, rollouts, drift and the dashboard."""

from muster_models import environment

__all__ = ["environment"]
