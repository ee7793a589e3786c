"""Running a model file: one protocol, one module per engine, each imported only where it is needed."""

from muster_models.runtime.load import load
from muster_models.runtime.protocol import Quantisation, Runtime, fits

__all__ = ["Quantisation", "Runtime", "fits", "load"]
