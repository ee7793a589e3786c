"""Other people's detectors, each with its documented default rule, each in an environment where it installs.

A module here is run as a program by that environment's Python: it reads windows, and prints what was flagged.
"""
