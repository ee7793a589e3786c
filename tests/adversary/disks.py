"""The device's own disk: what one can reach who writes to it without being the agent."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from adversary.scenario import After, Harmless, Kind, Limit, Play, Scenario
from adversary.world import World, contents
from muster_models.errors import Reason
from muster_models.manifest import encode
from muster_models.trust import memory
from support.repository import SignedRepository


def blob(world: World, role: str) -> Path:
    entry = next(file for file in world.old.manifest.files if file.role == role)
    return world.device.folder / "store/blobs" / entry.sha256


def changed_file(role: str, change: Callable[[bytes], bytes]) -> Play:
    """Change a file of the version that runs; at its next start it is hashed."""

    def play(world: World) -> Reason | None:
        path = blob(world, role)
        path.write_bytes(change(path.read_bytes()))
        came = world.restart().start(world.old.digest)
        path.unlink(missing_ok=True)
        return came

    return play


def removed_file(world: World) -> Reason | None:
    blob(world, "model").unlink()
    return world.restart().start(world.old.digest)


def changed_manifest(world: World) -> Reason | None:
    path = world.device.folder / "store/manifests" / world.old.digest
    path.write_bytes(world.old.document.replace(b'"release":1', b'"release":9'))
    return world.restart().start(world.old.digest)


def planted_version(world: World) -> Reason | None:
    """Put a whole version of the attacker's own beside the others, each file under its true hash."""
    files = contents("evil")
    document = encode(world.repository.manifest(files, version="6.6.6", release=6))
    store = world.device.folder / "store"
    for content in files.values():
        (store / "blobs" / hashlib.sha256(content).hexdigest()).write_bytes(content)
    digest = hashlib.sha256(document).hexdigest()
    path = store / "manifests" / digest
    path.write_bytes(document)
    came = world.restart().start(digest)
    path.unlink()
    return came


def planted_metadata(world: World) -> Reason | None:
    """Replace what the device remembers by another repository's, with a fitting checksum."""
    other = SignedRepository(world.folder / "other")
    evil = other.release(contents("evil"), version="6.6.6", release=6)
    device = world.device
    other.client(world.folder / "theirs").manifest("digits", "6.6.6", evil.digest)
    theirs = memory.load(world.folder / "theirs/memory")
    memory.save(device.folder / "trust/memory", theirs)
    path = device.folder / "store/manifests" / evil.digest
    path.write_bytes(evil.document)
    came = world.restart().start(evil.digest)
    path.unlink()
    return came


def emptied_memory(world: World) -> Reason | None:
    """Remove what the device remembers: without a network nothing starts, with one it learns again."""
    (world.device.folder / "trust/memory").unlink()
    restarted = world.restart()
    came = restarted.start(world.old.digest)
    assert restarted.install(world.order(world.new)) is None
    return came


def damaged_memory(world: World) -> Reason | None:
    path = world.device.folder / "trust/memory"
    path.write_bytes(path.read_bytes()[:-1])
    restarted = world.restart()
    assert restarted.start(world.old.digest) is Reason.UNSIGNED
    return restarted.install(world.order(world.new))


def old_memory(world: World) -> Reason | None:
    """Restore the trust folder of last week and cut the network: a withdrawn version starts again."""
    device = world.device
    path = device.folder / "trust/memory"
    before = path.read_bytes()
    world.repository.withdraw("digits", "1.0.0")
    device.refresh()
    assert world.restart().start(world.old.digest) is Reason.NOT_LISTED
    path.write_bytes(before)
    assert world.restart().start(world.old.digest) is None
    again = world.restart()
    again.refresh()
    assert again.start(world.old.digest) is Reason.NOT_LISTED
    return None


def planted_cache(world: World) -> Reason | None:
    """Write a role of a higher version, signed by nobody, into python-tuf's cache."""
    device = world.device
    forged = world.forge("model-digits")
    (device.folder / "trust/cache/model-digits.json").write_bytes(forged)
    restarted = world.restart()
    assert restarted.start(world.old.digest) is None
    return restarted.install(world.order(world.new))


def raised_floor(world: World) -> Reason | None:
    """Write a time floor of the far future: the device installs nothing, and goes on running."""
    device = world.device
    path = device.folder / "trust/memory"
    held = memory.load(path)
    memory.save(path, msgspec.structs.replace(held, time_floor=held.time_floor + 3e9))
    restarted = world.restart()
    assert restarted.start(world.old.digest) is None
    assert restarted.install(world.order(world.new)) is Reason.EXPIRED
    return None


def swapped_states(world: World) -> Reason | None:
    """Damage both copies of the state: the device starts as a new one and is told again."""
    device = world.device
    repository = world.repository
    assert device.obey(repository.envelope(repository.desired(world.old, sequence=7))) is None
    for name in ("state", "state.old"):
        path = device.folder / "store" / name
        if path.exists():
            path.write_bytes(b"0" * 64 + b"\n{}")
    restarted = world.restart()
    assert restarted.course.state.sequence == 0
    assert restarted.obey(repository.envelope(repository.desired(world.new, sequence=8))) is None
    return None


def planted_part(world: World) -> Reason | None:
    """Leave a complete but wrong unfinished file: its hash is wrong once, then it is fetched anew."""
    entry = world.new.manifest.file("model")
    part = world.device.folder / "store/blobs" / f"{entry.sha256}.part"
    part.write_bytes(b"z" * entry.length)
    first = world.restart().install(world.order(world.new))
    assert first is Reason.DOWNLOAD_FAILED
    return world.restart().install(world.order(world.new))


def long_part(world: World) -> Reason | None:
    entry = world.new.manifest.file("model")
    part = world.device.folder / "store/blobs" / f"{entry.sha256}.part"
    part.write_bytes(b"z" * (entry.length + 1000))
    return world.restart().install(world.order(world.new))


_DISK = Kind.DISK
WRITER = "write access to the device's disk"
SCENARIOS = (
    *(
        Scenario(
            f"disk-{word}-{role}",
            _DISK,
            WRITER,
            f"{says} the {role} file of the running version",
            Reason.TAMPERED,
            changed_file(role, change),
            runs=False,
        )
        for role in ("model", "baseline", "golden")
        for word, says, change in (
            ("flips", "flips one bit in", lambda data: bytes([data[0] ^ 1]) + data[1:]),
            ("cuts", "cuts a byte off", lambda data: data[:-1]),
        )
    ),
    Scenario(
        "disk-removes-model",
        _DISK,
        WRITER,
        "removes the model file",
        Reason.TAMPERED,
        removed_file,
        runs=False,
    ),
    Scenario(
        "disk-changes-manifest",
        _DISK,
        WRITER,
        "changes the manifest of the running version",
        Reason.STORAGE_FAILED,
        changed_manifest,
        runs=False,
    ),
    Scenario(
        "disk-plants-version",
        _DISK,
        WRITER,
        "puts a whole version of his own into the store",
        Reason.NOT_LISTED,
        planted_version,
    ),
    Scenario(
        "disk-plants-metadata",
        _DISK,
        WRITER,
        "replaces what the device remembers by another repository's",
        Reason.UNSIGNED,
        planted_metadata,
        runs=False,
    ),
    Scenario(
        "disk-plants-cache",
        _DISK,
        WRITER,
        "writes a forged role into the cache",
        Harmless("everything is verified from the pinned root at each use"),
        planted_cache,
    ),
    Scenario(
        "disk-empties-memory",
        _DISK,
        WRITER,
        "removes what the device remembers",
        Reason.UNSIGNED,
        emptied_memory,
        runs=False,
    ),
    Scenario(
        "disk-damages-memory",
        _DISK,
        WRITER,
        "cuts what the device remembers",
        Harmless("nothing starts without a network; with one it learns again"),
        damaged_memory,
        runs=False,
    ),
    Scenario(
        "disk-restores-memory",
        _DISK,
        WRITER,
        "restores what the device remembered last week",
        Limit("a version withdrawn since starts again until the device next looks at the repository"),
        old_memory,
        runs=False,
    ),
    Scenario(
        "disk-raises-time",
        _DISK,
        WRITER,
        "writes a time floor of the far future",
        Limit("the device installs nothing until it is enrolled anew; what runs goes on"),
        raised_floor,
        after=After.NOTHING,
    ),
    Scenario(
        "disk-damages-state",
        _DISK,
        WRITER,
        "damages both copies of the agent's state",
        Limit("the sequence begins at 0: orders that have not expired count again until a newer one comes"),
        swapped_states,
    ),
    Scenario(
        "disk-plants-part",
        _DISK,
        WRITER,
        "leaves a wrong unfinished file",
        Harmless("its hash is wrong once, then it is fetched anew"),
        planted_part,
    ),
    Scenario(
        "disk-plants-long-part",
        _DISK,
        WRITER,
        "leaves an unfinished file that is too long",
        Harmless("it is removed before the download"),
        long_part,
    ),
)
