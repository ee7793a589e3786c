"""Drift: levels of every device, signals at three levels, incidents. Pure."""
