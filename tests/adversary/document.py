"""The table of ``docs/adversary.md``, rendered from the scenarios."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adversary.scenario import Harmless, Kind, Limit, Scenario
from muster_models.errors import Reason

PATH = Path(__file__).parents[2] / "docs/adversary.md"
HEAD = """\
# What the adversary tried

Each row is played by `tests/adversary/test_adversary.py` against the real device side (trust client, fetcher,
downloader, store, installer) behind a real HTTP server that the attacker holds, or against the controller's
intake and enrolment. The test of a row is `test_an_attack_ends_as_the_table_says[<scenario>]`.

An outcome in `code` is the reason for which it is refused and which is reported; *nothing gained* says what
happens instead; **limit** is an attack that works, with its bounds, which the test asserts. After each attack
on a device the test also sees that only signed content lies complete on the disk, that the version that ran
before still starts without a network (unless its withdrawal is the point), and that the next honest release
is installed once the attacker is gone (after stolen online keys: once root names new ones).

Classes are TUF's (specification, section 1.5.2) and Uptane's, but for eavesdropping, which is left to TLS,
and what only this fleet knows: clocks, disks, reports, enrolment. A whole agent process under attack is
also in `tests/integration/test_agent_app.py`; mutations of everything that is signed, 100,000 of them, are in
`tests/property/test_trust_mutations.py`.

Written by `PYTHONPATH=tests:scripts python -m adversary > docs/adversary.md`; a test compares it.
"""


def render(scenarios: Sequence[Scenario]) -> str:
    """Return the document."""
    kinds = [kind for kind in Kind if any(scenario.kind is kind for scenario in scenarios)]
    parts = [HEAD, _sums(scenarios)]
    for kind in kinds:
        rows = [scenario for scenario in scenarios if scenario.kind is kind]
        parts.append(f"\n## {kind.capitalize()}\n\n| scenario | attacker holds | does | outcome |\n")
        parts.append("| --- | --- | --- | --- |\n")
        parts += [f"| {s.name} | {s.holds} | {s.does} | {_outcome(s)} |\n" for s in rows]
    return "".join(parts)


def _sums(scenarios: Sequence[Scenario]) -> str:
    sums = Counter(type(scenario.outcome) for scenario in scenarios)
    return (
        f"\n{len(scenarios)} scenarios: {sums[Reason]} refused with a reason, {sums[Harmless]} in which "
        f"nothing is gained, {sums[Limit]} limits.\n"
    )


def _outcome(scenario: Scenario) -> str:
    match scenario.outcome:
        case Reason() as reason:
            return f"`{reason}`"
        case Harmless(why):
            return f"*nothing gained*: {why}"
        case Limit(bound):
            return f"**limit**: {bound}"
