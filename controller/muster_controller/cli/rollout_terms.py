"""What ``muster rollout plan`` and ``start`` are told: a plan file, or a version and flags."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from cyclopts import Parameter

from muster_controller.cli.exits import UsageError
from muster_controller.domain.rollouts.planning.terms import (
    parse_duration,
    parse_number,
    parse_share,
    parse_stages,
)
from muster_models.errors import RequestError

Parsed = TypeVar("Parsed")
DEFAULT_STAGES: Final = "5%,25%,100%"  # the plan's own
STDIN: Final = "-"
MAX_BYTES: Final = 1024 * 1024

Subject = Annotated[
    str,
    Parameter(name="FILE|VERSION", help="A plan's file, - for standard input; or MODEL@VERSION or a digest."),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Terms:
    """To whom and under which conditions a version is rolled out; what is left out has the plan's default."""

    of: Annotated[str | None, Parameter(help="MODEL@VERSION, instead of the one in the file.")] = None
    where: Annotated[str | None, Parameter(help="A selector over labels: 'site in (berlin, oslo)'.")] = None
    previous: Annotated[str | None, Parameter(help="MODEL@VERSION that a rollback returns to.")] = None
    stages: Annotated[str | None, Parameter(help="Shares or numbers of devices, such as 1,25%,100%.")] = None
    control: Annotated[str | None, Parameter(help="Share that stays on the previous version: 25%.")] = None
    soak: Annotated[str | None, Parameter(help="That each stage runs at least: 10m, or seconds.")] = None
    minimum_rounds: Annotated[
        int | None, Parameter(help="Rounds of windows that both arms must show in each stage.")
    ] = None
    before_rounds: Annotated[
        int | None, Parameter(help="Rounds of windows to be seen of both arms before the first stage.")
    ] = None
    budget: Annotated[str | None, Parameter(help="Probability of rolling back what is no worse: 1%.")] = None
    probation: Annotated[str | None, Parameter(help="In which a device goes back by itself: 60s.")] = None
    shadow: Annotated[str | None, Parameter(help="In which it answers unseen first: 1h.")] = None
    shadow_share: Annotated[str | None, Parameter(help="Share of calls that it answers so: 25%.")] = None
    shadow_cpu: Annotated[float | None, Parameter(help="Per cent of a core that this may take.")] = None
    deadline: Annotated[str | None, Parameter(help="Until an undecided stage holds: 24h.")] = None
    seed: Annotated[str | None, Parameter(help="The same seed draws the same devices.")] = None

    def body(self, subject: str) -> dict[str, Any]:
        """Return what the API understands.

        Raises:
            UsageError: A stage, a share or a duration is not of the expected form, or a file is not a plan.
        """
        if is_file(subject):
            return self._body_of_file(subject)
        if self.of is not None:
            raise UsageError(f"--of goes with a plan's file, and {subject[:80]!r} is a version")
        return {"version": subject, **self._fields()}

    def _body_of_file(self, name: str) -> dict[str, Any]:
        given = [one.name for one in fields(self) if getattr(self, one.name) is not None and one.name != "of"]
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            raise UsageError(
                f"{flag} belongs into {name}: a plan's file says everything, --of alone changes it"
            )
        return read_file(name, version=self.of)

    def _fields(self) -> dict[str, Any]:
        return drop_none(
            selector=self.where,
            previous=self.previous,
            stages=self._stages(),
            control=typed(parse_share, self.control),
            before_rounds=self.before_rounds,
            error_budget=typed(parse_number, self.budget),
            probation_seconds=typed(parse_seconds, self.probation),
            shadow=self._shadow(),
            stage_deadline_seconds=typed(parse_seconds, self.deadline),
            seed=self.seed,
        )

    def _shadow(self) -> dict[str, Any] | None:
        conditions = drop_none(share=typed(parse_share, self.shadow_share), cpu_percent=self.shadow_cpu)
        if self.shadow is None:
            if conditions:
                raise UsageError("--shadow says for how long; without it there is no shadow")
            return None
        return {"seconds": typed(parse_seconds, self.shadow), **conditions}

    def _stages(self) -> list[dict[str, Any]] | None:
        conditions = drop_none(
            soak_seconds=typed(parse_seconds, self.soak), minimum_rounds=self.minimum_rounds
        )
        if self.stages is None and not conditions:
            return None
        stages = typed(parse_stages, self.stages or DEFAULT_STAGES)
        return [{**stage, **conditions} for stage in stages or ()]


TERMS: Final = Terms()


def is_file(subject: str) -> bool:
    """Tell whether what was named is a file: a version has an @ or is a digest, and neither has an ending."""
    return subject == STDIN or subject.endswith((".yaml", ".yml", ".json")) or Path(subject).is_file()


def read_file(name: str, *, version: str | None = None) -> dict[str, Any]:
    """Return what a plan's file says, as the API understands it.

    Args:
        name: Of the file; ``-`` for standard input.
        version: To roll out, instead of the file's.

    Raises:
        UsageError: It cannot be read, or is not a plan; the message names file, line, field and form.
    """
    # Imported late: most commands read no plan.
    from muster_controller.domain.rollouts.planning.file import read_plan_file  # noqa: PLC0415 - see above

    try:
        data = sys.stdin.buffer.read(MAX_BYTES) if name == STDIN else Path(name).read_bytes()[:MAX_BYTES]
        plan = read_plan_file(data.decode(), version=version)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not a text in UTF-8") from error
    except RequestError as error:
        raise UsageError(f"{name}: {error}") from error
    return {"version": plan.version, **drop_none(previous=plan.previous), **plan.fields}


def parse_seconds(text: str) -> float:
    """Return the seconds of ``10m`` or of a bare number.

    Raises:
        RequestError: Neither of the two.
    """
    try:
        return parse_number(text)
    except RequestError:
        return parse_duration(text)


def typed(parse: Callable[[str], Parsed], word: str | None) -> Parsed | None:
    """Return what a word of the command line says; None where it was not given.

    Raises:
        UsageError: It is not of the expected form, so that no server needs to be asked.
    """
    if word is None:
        return None
    try:
        return parse(word)
    except RequestError as error:
        raise UsageError(str(error)) from error


def drop_none(**given: Any) -> dict[str, Any]:
    """Return the fields that say something."""
    return {name: value for name, value in given.items() if value is not None}
