"""Whether the fleet's engines can load a version that is about to be released."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster_controller.cli.connection import Api
from muster_controller.cli.output import counted, note
from muster_models.errors import FitError, Reason

if TYPE_CHECKING:
    from muster_models.publish import Source

DESPITE = "--despite-engines releases it all the same"


@dataclass(frozen=True)
class Unfit:
    """Devices whose engine cannot load a model file.

    Attributes:
        why: What the engine lacks, in words.
    """

    engine: str
    devices: int
    names: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        """Return it as people are told."""
        more = ", ..." if self.devices > len(self.names) else ""
        who = f"{counted(self.devices, 'device')} ({', '.join(self.names)}{more})"
        return f"{self.engine} on {who}: {self.why}"


def check_fleet(api: Api, source: "Source", *, despite: bool) -> None:
    """Hold a model file against the engines that devices have reported, and tell what cannot load it.

    Raises:
        FitError: No device whose engine is for such files can load it, and ``despite`` was not asked for.
    """
    from muster_models.publish.targets import find_lack, needs_of  # noqa: PLC0415 - only for publishing

    declared = source.declared
    fleet = [
        one
        for one in api.get("/engines")
        if one["kind"] == declared.runtime and (not declared.hardware or one["hardware"] in declared.hardware)
    ]
    needs = needs_of(declared.runtime, source.model_path)
    lacks = [find_lack(needs, one["engine"]) for one in fleet]
    unfit = _unfit(fleet, lacks)
    if not unfit:
        return
    if len(unfit) == len(fleet) and not despite:
        told = "; ".join(map(str, unfit))
        raise FitError(Reason.WRONG_RUNTIME, f"no device can load {declared.file}: {told}; {DESPITE}")
    for one in unfit:
        note(f"will not load: {one}")


def _unfit(fleet: Sequence[dict[str, Any]], lacks: Sequence[str | None]) -> list[Unfit]:
    return [
        Unfit(one["engine"], one["devices"], tuple(one["names"]), lack)
        for one, lack in zip(fleet, lacks, strict=True)
        if lack is not None
    ]
