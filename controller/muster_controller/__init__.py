"""The controller: registry, fleet, rollouts, drift and the dashboard."""
