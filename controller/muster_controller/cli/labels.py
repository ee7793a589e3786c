"""Labels on the command line."""

from typing import Annotated

from cyclopts import Parameter

from muster_controller.cli.exits import UsageError

Labels = Annotated[
    tuple[str, ...], Parameter(name="--label", negative="", help="KEY=VALUE; may be repeated.")
]


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Return labels by key.

    Raises:
        UsageError: One is not KEY=VALUE.
    """
    labels: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not (key and mark and value):
            raise UsageError(f"a label is KEY=VALUE, got {text!r}")
        labels[key] = value
    return labels
