"""Running a model file: one protocol, one module per engine, each imported only where it is needed."""

from muster_models.engine import CPU, Engine, EngineOptions
from muster_models.runtime.load import load
from muster_models.runtime.protocol import Labels, Runtime, fits

__all__ = ["CPU", "Engine", "EngineOptions", "Labels", "Runtime", "fits", "load"]
