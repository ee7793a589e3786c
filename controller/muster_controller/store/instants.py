"""Instants: Unix seconds in the program, integer Unix milliseconds in tables."""


def milliseconds(seconds: float) -> int:
    """Return what a table stores for an instant in Unix seconds."""
    return round(seconds * 1000)


def seconds(milliseconds: int) -> float:
    """Return the Unix seconds of a stored instant."""
    return milliseconds / 1000
