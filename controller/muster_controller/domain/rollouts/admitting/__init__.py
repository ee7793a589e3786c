"""When and how fast devices are given a version."""
