"""Running models so that a bad one harms nothing but itself: preflight, workers, hot swap."""

from muster_agent.runner.job import Verdict
from muster_agent.runner.runner import Isolation, Patience, Runner, Serving
from muster_agent.runner.shadow import Shadowed, Terms
from muster_agent.runner.zygote import Zygote

__all__ = ["Isolation", "Patience", "Runner", "Serving", "Shadowed", "Terms", "Verdict", "Zygote"]
