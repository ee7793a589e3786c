"""What a scenario is: an attack as data, the outcome that is promised, and the function that plays it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from adversary.world import World
from muster_models.errors import Reason

Play = Callable[[World], Reason | None]


class Kind(StrEnum):
    """The classes: TUF's nine, Uptane's, and what only devices of this fleet know."""

    ARBITRARY = "arbitrary installation"
    ENDLESS = "endless data"
    EXTRANEOUS = "extraneous dependencies"
    FAST_FORWARD = "fast-forward"
    FREEZE = "indefinite freeze"
    MIRROR = "malicious mirror"
    MIX = "mix-and-match"
    ROLLBACK = "rollback"
    SLOW = "slow retrieval"
    WRONG = "wrong software"
    KEYS = "key compromise"
    ORDERS = "false orders"
    CLOCK = "clock"
    WITHDRAWN = "withdrawn versions"
    DISK = "the device's own disk"
    REPORTS = "reports"
    ENROLMENT = "enrolment"


@dataclass(frozen=True)
class Harmless:
    """Nothing is refused, because nothing was gained.

    Attributes:
        why: What happens instead.
    """

    why: str


@dataclass(frozen=True)
class Limit:
    """The attack works, within bounds that are asserted.

    Attributes:
        bound: How far, and until when.
    """

    bound: str


class After(StrEnum):
    """What must be possible once the attacker is gone."""

    INSTALLS = "the next version is installed at once"
    NEW_ONLINE_KEYS = "the next version is installed once root names new online keys"
    NEW_RELEASE_KEY = "the same, and targets give the model a new release key"
    NOTHING = "played to its end by the scenario itself"


@dataclass(frozen=True)
class Scenario:
    """One attack.

    Attributes:
        name: Names it in the table and as a test.
        holds: What the attacker has.
        does: What he does with it.
        outcome: A reason for which the device (or the controller) refuses, or what else is promised.
        play: Plays it in a world; returns the reason of the refusal, None when nothing was refused.
        runs: The version that ran before must still start afterwards, without a network.
        after: What must be possible afterwards.
    """

    name: str
    kind: Kind
    holds: str
    does: str
    outcome: Reason | Harmless | Limit
    play: Play
    runs: bool = True
    after: After = After.INSTALLS
    slow: bool = False

    @property
    def refusal(self) -> Reason | None:
        """What ``play`` must return."""
        return self.outcome if isinstance(self.outcome, Reason) else None


NETWORK = "the network"
MIRROR = "the mirror"
ONLINE = "timestamp and snapshot keys"
DIRECTOR = "the director key"
BROKER = "the broker"
