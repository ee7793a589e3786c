"""The engines of the fleet: which versions devices say that they run models with."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.store.tables import Device

MAX_NAMED = 3


@dataclass(frozen=True)
class EngineView:
    """One engine in one version, on one kind of hardware.

    Attributes:
        kind: Of the model files that it runs: ``onnx`` or ``tflite``.
        engine: Name and version, as devices report them.
        hardware: As ``platform.machine()`` names it.
        devices: How many have it, revoked ones left out.
        names: Of some of them, at most 3.
    """

    kind: str
    engine: str
    hardware: str
    devices: int
    names: tuple[str, ...]


def list_engines(session: Session) -> tuple[EngineView, ...]:
    """Return the engines of all devices, by kind and version."""
    rows = session.exec(
        select(Device.id, Device.hardware, Device.runtimes)
        .where(col(Device.revoked_at).is_(None))
        .order_by(col(Device.id))
    )
    held: dict[tuple[str, str, str], list[str]] = {}
    for device, hardware, runtimes in rows:
        for kind, engine in runtimes.items():
            # What follows the version is why a device runs on its CPU.
            held.setdefault((kind, engine.partition(";")[0], hardware), []).append(device)
    return tuple(
        EngineView(*key, devices=len(names), names=tuple(names[:MAX_NAMED]))
        for key, names in sorted(held.items())
    )
