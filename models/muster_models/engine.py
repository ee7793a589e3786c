"""Which engine a device wants for its models, and which one it got."""

from typing import Annotated

from msgspec import Meta, Struct

CPU = "CPU"
Options = dict[str, str]


class EngineOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device asks of its engines. The CPU answers wherever that cannot be had, and it is said why.

    Attributes:
        onnx_providers: Execution providers of onnxruntime, the preferred one first; the CPU comes last.
        tflite_delegates: Libraries of delegates for TFLite, in order.
        options: Of each provider by its name, and of each delegate by its path.
        devices: Paths that confined children may open for reading and writing, such as ``/dev/apex_0``.
        threads: Of one call. More than one is for models that take milliseconds: threads cost small models
            more than they give.
    """

    onnx_providers: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    tflite_delegates: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    options: dict[str, Options] = {}
    devices: Annotated[tuple[str, ...], Meta(max_length=32)] = ()
    threads: Annotated[int, Meta(ge=1, le=64)] = 1

    def accelerates(self, kind: str) -> bool:
        """Tell whether something besides the CPU is asked for."""
        return bool(self.onnx_providers if kind == "onnx" else self.tflite_delegates)

    def on_cpu(self) -> "EngineOptions":
        """Return the same with the CPU alone."""
        return EngineOptions(threads=self.threads)


CPU_ALONE = EngineOptions()


class Engine(Struct, frozen=True):
    """What answers for a loaded model.

    Attributes:
        name: ``CPU``, or the providers or delegates that were had.
        lacking: Why something that was asked for does not answer; empty where nothing lacks.
    """

    name: str = CPU
    lacking: str = ""
