"""A story in words: what a person reads who has to find out why an invariant broke."""

from collections.abc import Iterator

from simulation.story import DENSE, Fault, Story, Terms, Trouble, Weather
from simulation.versions import EXPECTED

_CALM = Weather()


def tell(story: Story) -> list[str]:
    """Return a story in words, one thing a line."""
    return [
        *_begin(story),
        *(f"at {fault.at:g} s {_fault(fault)}" for fault in story.faults),
        "the faults stop",
    ]


def _begin(story: Story) -> Iterator[str]:
    names = ", ".join(member.name for member in story.fleet)
    yield f"{len(story.fleet)} devices ({names}) {'run' if story.installed else 'are given'} 1.0.0"
    if story.drifting:
        yield f"then {story.drifting} drifts"
    for number, kind in enumerate(story.versions, start=1):
        at = f" (at {story.sick})" if "one site" in EXPECTED[kind].what else ""
        stages = ", ".join(f"{stage:g}" for stage in story.stages)
        yield f"then 1.{number}.0 is rolled out in stages of {stages}; it {EXPECTED[kind].what}{at}"
    if story.shadow and story.versions:
        yield f"every version answers in shadow for {story.shadow:g} s first"
    yield from _plans(story)
    if story.outbox_bytes < 10**6:
        yield f"an outbox holds {story.outbox_bytes} bytes, and merges windows above that"
    if story.own_baselines:
        yield "every version has a baseline of its own"
    if story.recorder:
        yield "every call goes through the real recorder"
    if story.pace != DENSE:
        yield f"windows of {story.pace.window:g} s"
    yield from _weather(story.weather)


def _plans(story: Story) -> Iterator[str]:
    if story.ramp:
        yield f"at most {story.ramp} devices a minute are given a version"
    yield from _terms(story.terms)
    for member in story.fleet:
        if member.joins:
            yield f"{member.name} joins after {member.joins:g} s; those that join are drawn too"
    for first, last in story.windows:
        yield f"devices may be given one from minute {first} to minute {last}"


def _terms(terms: Terms) -> Iterator[str]:
    if terms.retry:
        more = ", whatever the failure" if terms.forgives else ""
        yield f"a device on which a version failed is given it again after {terms.retry:g} s{more}"
    if terms.budget:
        yield f"the fleet downloads at most {terms.budget} copies a minute"
    if terms.approvals:
        times = ", ".join(f"{at:g}" for at in terms.approvals)
        yield f"two people must agree; {times} s after they are asked they do, for {terms.expires:g} s each"
    if terms.withheld:
        yield f"after {terms.withheld:g} s somebody refuses"
    if terms.counts:
        yield "versions are compared by the scrap that the application counts"
    if terms.labels:
        yield f"the truth about answers is known {terms.labels:g} s later, and versions are compared by that"
    if terms.edits:
        yield f"after {terms.edits:g} s an operator edits the plan, where it has not begun"


def _weather(weather: Weather) -> Iterator[str]:
    if weather.loss:
        yield f"{weather.loss:.0%} of messages are lost"
    if weather.duplication:
        yield f"{weather.duplication:.0%} of messages come twice"
    if weather.delay != _CALM.delay:
        yield f"messages take {weather.delay:g} s on average, each its own time"
    if weather.broken:
        yield f"{weather.broken:.0%} of transfers end early"
    if weather.damaged:
        yield f"{weather.damaged:.0%} of transfers deliver other bytes"
    if weather.mischief:
        yield f"beside {weather.mischief:.0%} of desired states a stranger sends another"


_FAULTS = {
    Trouble.CUT: "{who} loses power",
    Trouble.TORN: "{who} loses power at call {size:g} to its disk from then on",
    Trouble.HALF: "{who} loses power at transaction {size:g} of its outbox from then on",
    Trouble.KILL: "the agent of {who} is killed at call {size:g} to its disk from then on",
    Trouble.AWAY: "{who} is offline for {size:g} s",
    Trouble.SITE: "{who} is offline for {size:g} s",
    Trouble.DISK: "the disk of {who} refuses for {size:g} s ({error})",
    Trouble.WORKER: "a worker of {who} dies",
    Trouble.CLOCK: "the clock of {who} jumps by {size:+g} s",
    Trouble.CRASH: "the controller dies at step {size:g} from then on",
    Trouble.FORGET: "the broker forgets its sessions and all that it held",
    Trouble.PAUSE: "an operator pauses the rollout for {size:g} s",
    Trouble.STOP: "an operator stops the model for {size:g} s",
}


def _fault(fault: Fault) -> str:
    again = f", and again at call {fault.again} to the disk after it starts" if fault.again else ""
    return _FAULTS[fault.kind].format(who=fault.who, size=fault.size, error=fault.error) + again
