"""The agent: runs signed models on one device and reports what they see.

``Agent`` is the whole agent in the application's process; ``Client`` calls an agent that runs in another one;
``Model`` is one model of either.
"""

from typing import TYPE_CHECKING

from muster_models import environment

if TYPE_CHECKING:
    from muster_agent.api import Client
    from muster_agent.app import Agent
    from muster_agent.model import Model

__all__ = ["Agent", "Client", "Model", "environment"]


def __getattr__(name: str) -> object:
    """Import a name at its first use, so that children of a zygote do not carry the whole agent."""
    match name:
        case "Agent":
            from muster_agent.app import Agent  # noqa: PLC0415 - as said

            return Agent
        case "Client":
            from muster_agent.api import Client  # noqa: PLC0415 - as said

            return Client
        case "Model":
            from muster_agent.model import Model  # noqa: PLC0415 - as said

            return Model
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
