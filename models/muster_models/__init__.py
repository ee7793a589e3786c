"""What a model is in Muster: the shared vocabulary of the agent and the controller."""

from importlib.metadata import version

__version__ = version("muster-fleet")
__all__ = ["__version__"]
