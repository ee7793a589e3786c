"""What a model is in Muster: the shared vocabulary of the agent and the controller."""

from importlib.metadata import version

from muster_models import environment

__version__ = version("muster-fleet")
__all__ = ["__version__", "environment"]
