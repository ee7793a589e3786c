"""Batch work: the rows of a file through a running agent into another file."""
