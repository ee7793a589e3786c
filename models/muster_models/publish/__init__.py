"""Publishing: a source folder is read, its model inspected and measured, and the files of a version made."""

from muster_models.publish.build import Built, build
from muster_models.publish.gate import inspect
from muster_models.publish.source import Source, read_source

__all__ = ["Built", "Source", "build", "inspect", "read_source"]
