"""The groups that devices belong to, by their labels."""

from collections.abc import Collection, Mapping, Sequence

Groups = Mapping[str, Collection[str]]  # names of groups by device


def groups_of(labels: Mapping[str, str], watched: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the groups that a device belongs to, as ``label=value``."""
    return tuple(f"{label}={labels[label]}" for label in watched if label in labels)
