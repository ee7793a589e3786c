"""Asking in a process of its own whether what a device wants of an engine can be had.

``python -m muster_models.runtime.probe KIND OPTIONS`` prints what lacks, as a JSON list of sentences. A
driver that ends its process ends only this one.
"""

import sys
from typing import get_args

import msgspec

from muster_models.engine import EngineOptions
from muster_models.manifest import RuntimeKind


def lacking(kind: RuntimeKind, options: EngineOptions) -> list[str]:
    """Return why something that is wanted beside the CPU cannot be had.

    Raises:
        ImportError: The engine is not installed.
    """
    match kind:
        case "onnx":
            from muster_models.runtime.onnx import missing_providers  # noqa: PLC0415 - a device has one engine

            return missing_providers(options.onnx_providers)
        case "tflite":
            from muster_models.runtime.tflite import missing_delegates  # noqa: PLC0415 - as above

            return missing_delegates(options)


def main(arguments: list[str]) -> None:
    """Print what lacks."""
    name, options = arguments
    kind: RuntimeKind = next(known for known in get_args(RuntimeKind) if known == name)
    found = lacking(kind, msgspec.json.decode(options, type=EngineOptions))
    sys.stdout.write(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
