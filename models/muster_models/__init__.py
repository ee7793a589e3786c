"""What a model is in Muster: the shared vocabulary of the agent and the controller."""

from muster_models import environment
from muster_models.distribution import version_of

__version__ = version_of("muster-fleet") or "0"  # a tree that was never installed
__all__ = ["__version__", "environment"]
