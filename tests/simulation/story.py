"""What is to happen in a seed, as a list that can be shortened: the fleet, the versions, and every fault.

Pure data. A seed draws a story once, before anything happens; a story can be written down as JSON, made
shorter, and lived again, and what is left of it happens as before.
"""

import math
from collections.abc import Callable, Iterator
from enum import StrEnum
from random import Random

import msgspec
from msgspec import Struct

from muster_models.wire import Shadow
from simulation.versions import Kind

SITES = ("berlin", "lyon", "oslo", "porto")
HARDWARE = ("x86_64", "aarch64")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns")
CONTROLLER = "the controller"
FAULTY_ROUNDS = 40.0  # at most; then the faults stop


class Pace(Struct, frozen=True, forbid_unknown_fields=True):
    """How often the parts of a fleet speak and look; seconds.

    Attributes:
        window: Length of a window, and of a round.
        heartbeat, hello, resend: Between two reports, two greetings, and two looks at a watermark that rests.
        look: Between two looks of an agent at its deadlines.
        tick, gather: Of the controller: between two passes, and between two batches on average.
    """

    window: float = 10.0
    heartbeat: float = 90.0
    hello: float = 90.0
    resend: float = 12.0
    look: float = 5.0
    tick: float = 20.0
    gather: float = 20.0


DENSE = Pace()  # a day of a fleet in ten minutes
USUAL = Pace(window=300.0, heartbeat=300.0, hello=21_600.0, resend=60.0, look=1.0, tick=5.0, gather=20.0)


class Trouble(StrEnum):
    """What can go wrong at one moment; the rest is in ``Weather``."""

    CUT = "cut"  # the power goes
    TORN = "torn"  # the power goes at the ``size``-th call to the disk
    HALF = "half"  # the power goes at the ``size``-th transaction of the outbox
    KILL = "kill"  # the process ends, at the ``size``-th call to the disk
    AWAY = "away"  # no network for ``size`` seconds
    SITE = "site"  # no network at a site for ``size`` seconds
    DISK = "disk"  # the disk refuses for ``size`` seconds
    WORKER = "worker"  # a worker that proved itself dies
    CLOCK = "clock"  # a clock jumps by ``size`` seconds
    CRASH = "crash"  # the controller dies, at its ``size``-th step
    FORGET = "forget"  # the broker forgets its sessions and all that it held
    PAUSE = "pause"  # an operator pauses the rollout, and resumes it after ``size`` seconds
    STOP = "stop"  # an operator stops the model, and lets it answer again after ``size`` seconds


class Fault(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that goes wrong.

    Attributes:
        at: Seconds since the start.
        who: A device, a site, or ``CONTROLLER``.
        size: As ``Trouble`` says.
        again: The call to the disk after the next start at which the power goes once more; 0 for never.
        error: Name of the error that a disk refuses with.
    """

    at: float
    kind: Trouble
    who: str = ""
    size: float = 0.0
    again: int = 0
    error: str = ""


class Weather(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What goes wrong now and then all the time; shares are 0..1.

    Attributes:
        loss, duplication: Of messages, in either direction.
        delay: Of a message, seconds on average; drawn anew for each, so that they overtake each other.
        broken, damaged: Of downloads: that end early, that deliver other bytes.
        mischief: Of desired states, beside which a stranger sends something else.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.05
    broken: float = 0.0
    damaged: float = 0.0
    mischief: float = 0.0

    @property
    def calm(self) -> "Weather":
        """The same network, and nothing goes wrong."""
        return Weather(delay=self.delay)


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """One device, as it differs from the others.

    Attributes:
        rate: Calls a second.
        offset: What is peculiar to what it sees, in standard deviations.
        skew: Seconds that its clock is ahead.
        joins: Seconds after the start when it is enrolled; 0: before.
    """

    name: str
    site: str
    rate: float = 80.0
    offset: float = 0.0
    skew: float = 0.0
    hardware: str = HARDWARE[0]
    zone: str = ZONES[0]
    joins: float = 0.0


class Terms(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the plans of rollouts ask for besides, once there is a version to go back to.

    Attributes:
        retry: Seconds before a device on which a version failed is given it again, at first; 0 for never.
        forgives: That goes for failures of which the version may be to blame, too.
        budget: At most so many copies a minute may the fleet download; 0 for no limit.
        approvals: Two people must agree: seconds after the request at which one does; empty for nobody.
        expires: Seconds for which an approval counts.
        withheld: Seconds after the request at which somebody refuses; 0 for never.
        counts: Versions are compared by what the application counts.
        labels: Versions are compared by the truth about their answers, which applications learn so many
            seconds after a window, on average; 0 for never.
        edits: Seconds after the request at which an operator edits the plan, if it can still be edited; 0
            for never.
    """

    retry: float = 0.0
    forgives: bool = False
    budget: int = 0
    approvals: tuple[float, ...] = ()
    expires: float = 0.0
    withheld: float = 0.0
    counts: bool = False
    labels: float = 0.0
    edits: float = 0.0


class Story(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to happen in a seed.

    Attributes:
        seed: Names every chance that is not written down here.
        installed: The first version, which is fine, is installed everywhere; or it is rolled out first.
        versions: What is rolled out after it, one after the other.
        stages: Devices of each stage, in percent of the cohort, or as a count before the last one.
        soak: Rounds that a stage must run.
        drifting: The site at which the world changes, before the second version comes.
        sick: The site at which a version is worse that is so at one site only.
        own_baselines: The good versions have baselines of their own, and do not share one.
        outbox_bytes: Small ones merge windows.
        shadow: How long every version answers in shadow first, seconds; 0 for not.
        ramp: At most so many devices a minute are given a version; 0 for no limit.
        windows: Minutes after the start between which devices may be given one; empty for always.
        terms: What plans ask for besides.
        recorder: Every call goes through the real recorder; otherwise a window's rows are sketched at once.
        recomputes: Every decision of the controller is made a second time, from what it stored.
    """

    seed: int
    fleet: tuple[Member, ...]
    installed: bool = False
    versions: tuple[Kind, ...] = ()
    stages: tuple[float, ...] = (25.0, 100.0)
    soak: float = 1.5
    drifting: str = ""
    sick: str = SITES[0]
    own_baselines: bool = False
    outbox_bytes: int = 10**6
    shadow: float = 0.0
    ramp: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    terms: Terms = Terms()
    recorder: bool = False
    recomputes: bool = False
    weather: Weather = Weather()
    faults: tuple[Fault, ...] = ()
    pace: Pace = DENSE

    @property
    def order(self) -> Shadow | None:
        """The order that versions answer in shadow first."""
        return Shadow(seconds=self.shadow) if self.shadow else None

    @property
    def sites(self) -> dict[str, str]:
        """The site of each device."""
        return {member.name: member.site for member in self.fleet}

    @property
    def is_dynamic(self) -> bool:
        """Whether devices join later, and are drawn then."""
        return any(member.joins for member in self.fleet)

    @property
    def first(self) -> tuple[Member, ...]:
        """The devices that are there from the start."""
        return tuple(member for member in self.fleet if not member.joins)


def draw(seed: int) -> Story:
    """Return the story of a seed; in one of ten nothing goes wrong but, perhaps, the versions."""
    chance = Random(f"{seed}/story")
    installed = chance.random() < 0.8
    fleet = tuple(_draw_fleet(chance, are_known=installed))
    updates, drifts = chance.choices(((True, False), (False, True), (True, True)), (8, 1, 1))[0]
    drifting = chance.choice(sorted({member.site for member in fleet})) if drifts else ""
    story = Story(
        seed=seed,
        fleet=fleet,
        installed=installed,
        versions=_draw_versions(chance) if updates else (),
        stages=chance.choice(((25.0, 100.0),) * 4 + ((1, 100.0), (40.0, 100.0), (25.0, 60.0, 100.0))),
        soak=chance.choice((1.5, 1.5, 3.0)),
        drifting=drifting,
        sick=chance.choice(SITES),
        own_baselines=chance.random() < 0.5,
        outbox_bytes=chance.choice((6_000, 10**6, 10**6)),
        shadow=round(chance.uniform(5, 30), 1) if chance.random() < 0.25 else 0.0,
        ramp=chance.choice((1, 2, 3)) if chance.random() < 0.12 else 0,
        windows=((chance.randint(1, 2), 3), (chance.randint(4, 5), 90)) if chance.random() < 0.08 else (),
        recorder=chance.random() < 0.06,
        recomputes=chance.random() < 0.08,
    )
    if chance.random() < 0.1:
        return _draw_more(Random(f"{seed}/more"), story)
    faults = tuple(sorted(_draw_faults(chance, story), key=lambda fault: fault.at))
    lived = msgspec.structs.replace(story, weather=_draw_weather(chance), faults=faults)
    return _draw_more(Random(f"{seed}/more"), lived)


def encode(story: Story) -> bytes:
    """Return a story as JSON."""
    return msgspec.json.format(msgspec.json.encode(story), indent=1)


def decode(document: bytes) -> Story:
    """Return the story in JSON.

    Raises:
        msgspec.ValidationError: It is none.
    """
    return msgspec.json.decode(document, type=Story)


def _draw_fleet(chance: Random, *, are_known: bool) -> Iterator[Member]:
    """Yield the devices; a fleet that has lived before is always of the same ones."""
    for number in range(1, chance.choice((4, 4, 4, 5, 6, 8)) + 1):
        site = SITES[(number - 1) % len(SITES)]
        name = f"{site}-{number}"
        if are_known:
            chance = Random(name)
        yield Member(
            name,
            site,
            rate=chance.choice((50.0, 80.0, 80.0, 120.0)),
            offset=round(chance.gauss(0, 0.1), 3),
            skew=round(chance.uniform(-1.5, 1.5), 2),
            hardware=chance.choice(HARDWARE),
            zone=chance.choice(ZONES),
        )


def _draw_versions(chance: Random) -> tuple[Kind, ...]:
    kind = Kind.FINE if chance.random() < 0.3 else chance.choice(_KINDS)
    is_followed = kind is not Kind.FINE and chance.random() < 0.3
    return (kind, Kind.FINE) if is_followed else (kind,)


def _draw_more(chance: Random, story: Story) -> Story:
    """Return a story with what plans and operators may ask for besides: a few in every hundred have each."""
    replace, draws = msgspec.structs.replace, [chance.random() for _ in range(6)]
    if not (story.installed and story.versions):
        return story
    terms = Terms(
        retry=chance.choice((30.0, 50.0)) if draws[0] < 0.1 else 0.0,
        forgives=chance.random() < 0.6 if draws[0] < 0.1 else False,
        budget=chance.choice((1, 2, 3)) if draws[1] < 0.06 else 0,
        counts=draws[2] < 0.08 and not story.recorder,
    )
    if terms.forgives and chance.random() < 0.6:
        failing = chance.choice((Kind.REFUSED, Kind.CRASHES))
        story = replace(story, versions=(failing, *story.versions[1:]))
    if terms.counts and chance.random() < 0.6:
        story = replace(story, versions=(Kind.WASTES, *story.versions[1:]))
    if draws[3] < 0.1:
        terms = replace(terms, **_draw_approvals(Random(f"{story.seed}/approvals")))
    story, terms = _draw_latest(Random(f"{story.seed}/latest"), story, terms)
    if draws[4] < 0.06 and not story.drifting:
        story = replace(story, fleet=(*story.fleet, *_draw_joiners(chance, len(story.fleet))))
    if draws[5] < 0.08:
        at, size = round(chance.uniform(40, 250), 1), round(chance.uniform(8, 60), 1)
        stop = Fault(at, Trouble.STOP, "an operator", size)
        story = replace(story, faults=tuple(sorted((*story.faults, stop), key=lambda fault: fault.at)))
    return replace(story, terms=terms)


def _draw_latest(chance: Random, story: Story, terms: Terms) -> tuple[Story, Terms]:
    """Return story and terms with labels that come late, and with an edit of what waits to be approved."""
    replace, draws = msgspec.structs.replace, [chance.random() for _ in range(3)]
    if draws[0] < 0.08 and not (story.recorder or terms.counts):
        soon, late = (5, 25), (90, 150)  # before a stage has been seen for long enough, and after
        terms = replace(terms, labels=round(chance.uniform(*chance.choice((soon, soon, late))), 1))
        if draws[1] < 0.5:
            story = replace(story, versions=(Kind.MISTAKEN, *story.versions[1:]))
    if draws[2] < 0.5 and terms.approvals:
        terms = replace(terms, edits=round(chance.uniform(1, max(terms.approvals) + 15), 1))
    return story, terms


def _draw_approvals(chance: Random) -> dict[str, object]:
    """Return when people agree: in time, or too far apart to count together; or that one refuses."""
    first, expires = round(chance.uniform(1, 20), 1), 40.0
    apart = chance.choice((chance.uniform(1, 30), chance.uniform(42, 60), chance.uniform(42, 60)))
    second = round(first + apart, 1)
    withheld = round(chance.uniform(1, 60), 1) if chance.random() < 0.25 else 0.0
    return {"approvals": (first, second), "expires": expires, "withheld": withheld}


def _draw_joiners(chance: Random, count: int) -> Iterator[Member]:
    for number in range(count + 1, count + 1 + chance.choice((1, 2))):
        site = SITES[(number - 1) % len(SITES)]
        yield Member(f"{site}-{number}", site, joins=round(chance.uniform(20, 200), 1))


def _draw_weather(chance: Random) -> Weather:
    def sometimes(worst: float) -> float:
        return round(chance.uniform(0, worst), 3) if chance.random() < 2 / 3 else 0.0

    return Weather(
        loss=sometimes(0.3),
        duplication=sometimes(0.3),
        delay=chance.choice((0.02, 0.3, 2.0)),
        broken=sometimes(0.5),
        damaged=sometimes(0.15),
        mischief=sometimes(0.5),
    )


def _draw_faults(chance: Random, story: Story) -> Iterator[Fault]:
    """Yield what goes wrong; each kind of trouble is absent in a third of the stories."""
    seconds, count = FAULTY_ROUNDS * story.pace.window, len(story.fleet)
    for make, (least, most), is_each in _TROUBLES:
        mean = chance.uniform(least, most) / (count if is_each else 1)
        at = 0.0 if chance.random() < 2 / 3 else math.inf
        while (at := at + chance.expovariate(1 / mean)) < seconds:
            who = chance.choice(story.fleet).name if is_each else ""
            yield make(chance, round(at, 2), who)


def _cut(chance: Random, at: float, device: str) -> Fault:
    kind = chance.choice((Trouble.CUT, Trouble.TORN, Trouble.TORN, Trouble.HALF, Trouble.KILL))
    most = 12 if kind is Trouble.HALF else 40
    again = chance.randint(1, 20) if chance.random() < 0.2 else 0
    return Fault(at, kind, device, 0 if kind is Trouble.CUT else chance.randint(1, most), again)


def _away(chance: Random, at: float, device: str) -> Fault:
    return Fault(at, Trouble.AWAY, device, round(chance.uniform(5, 120), 1))


def _refuse(chance: Random, at: float, device: str) -> Fault:
    error = chance.choice(("ENOSPC", "EIO", "EROFS"))
    return Fault(at, Trouble.DISK, device, round(chance.uniform(1, 20), 1), error=error)


def _jump(chance: Random, at: float, device: str) -> Fault:
    most = chance.choice((5, 5, 45))
    return Fault(at, Trouble.CLOCK, device, round(chance.uniform(-most, most), 1))


def _part(chance: Random, at: float, _device: str) -> Fault:
    return Fault(at, Trouble.SITE, chance.choice(SITES), round(chance.uniform(5, 90), 1))


# Those that any plan can tell.
_KINDS = tuple(kind for kind in Kind if kind not in {Kind.WASTES, Kind.MISTAKEN})
# Each with its mean time between two, seconds, of one device or of the whole fleet.
_TROUBLES: tuple[tuple[Callable[[Random, float, str], Fault], tuple[float, float], bool], ...] = (
    (_cut, (60, 400), True),
    (_away, (100, 500), True),
    (_refuse, (150, 600), True),
    (lambda _, at, device: Fault(at, Trouble.WORKER, device), (300, 900), True),
    (_jump, (300, 1500), True),
    (lambda chance, at, _: Fault(at, Trouble.CRASH, CONTROLLER, chance.randint(1, 15)), (20, 150), False),
    (_part, (150, 600), False),
    (lambda _, at, __: Fault(at, Trouble.FORGET, "the broker"), (150, 600), False),
    (
        lambda chance, at, _: Fault(at, Trouble.PAUSE, "an operator", round(chance.uniform(5, 40), 1)),
        (200, 800),
        False,
    ),
)
