"""What keeps a device from working, and how to mend it: ``muster-agent doctor``.

Each check looks at one thing for a few seconds at most and changes nothing. It works beside a running agent
and without one, and without a network. Not here: what models do (``status``), a model file (``check``).
"""

import time
from collections.abc import Callable, Iterator

from muster_agent.config import Folder, Settings
from muster_agent.doctor import local, network
from muster_agent.doctor.finding import Case, Check, Finding, short
from muster_models.errors import MusterError

# In the order in which to mend what they find.
CHECKS: dict[str, Check] = {
    "files": local.files,
    "root": local.root,
    "state": local.state,
    "disk": local.disk,
    "clock": local.clock,
    "certificate": local.certificate,
    "controller": network.controller,
    "broker": network.broker,
    "repository": network.repository,
    "sandbox": local.isolation,
    "runtimes": local.runtimes,
    "agent": local.agent,
}


def examine(folder: Folder, settings: Settings, *, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Return what every check finds about a device, in the order in which to mend it."""
    case = Case(folder, settings, clock)
    return [finding for name, check in CHECKS.items() for finding in _tried(name, check, case)]


def render(findings: list[Finding]) -> str:
    """Return findings as a person reads them."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<6}  {finding.check:<{width}}  {finding.said}")
        if finding.fix:
            lines.append(f"{'':<6}  {'':<{width}}  -> {finding.fix}")
    return "\n".join(lines)


def _tried(name: str, check: Check, case: Case) -> Iterator[Finding]:
    try:
        yield from check(case)
    except (MusterError, OSError) as error:
        yield Finding(
            name, "wrong", f"could not be looked at: {short(error)}", "mend first what stands above as wrong"
        )
