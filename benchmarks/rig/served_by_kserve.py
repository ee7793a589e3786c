"""An ONNX model as KServe serves it: the same session options as ours. Run in KServe's own environment.

``python -m rig.served_by_kserve MODEL [options of KServe's server]``
"""

import sys
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.rest import server

_DATATYPES = {"float32": "FP32", "int64": "INT64"}


class OnnxModel(Model):  # type: ignore[misc]  # KServe is untyped here
    """Answers from one file."""

    def __init__(self, path: str) -> None:
        super().__init__("digits")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [node.name for node in self._session.get_outputs()]
        self.ready = True

    async def predict(
        self, payload: InferRequest, headers: object = None, response_headers: object = None
    ) -> InferResponse:
        """Answer one request, in JSON."""
        del headers, response_headers
        inputs = {entry.name: entry.as_numpy() for entry in payload.inputs}
        outputs = []
        for name, value in zip(self._names, self._session.run(self._names, inputs), strict=True):
            output = InferOutput(name, list(value.shape), _DATATYPES[value.dtype.name])
            output.set_data_from_numpy(value, binary_data=False)
            outputs.append(output)
        return InferResponse(payload.id or "", self.name, outputs)


def main() -> None:
    """Serve until the process is ended, on loopback alone."""
    configured = server.uvicorn.Config

    def on_loopback(*positional: Any, **named: Any) -> object:
        # KServe has no option for the address, and a benchmark opens nothing to a network.
        return configured(*positional, **{**named, "host": "127.0.0.1"})

    server.uvicorn.Config = on_loopback
    ModelServer().start([OnnxModel(sys.argv[1])])


if __name__ == "__main__":
    main()
