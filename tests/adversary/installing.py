"""Arbitrary installation: bytes that nobody released, and documents that nobody entitled signed."""

from collections.abc import Callable
from typing import Any

import msgspec
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata

from adversary.scenario import MIRROR, NETWORK, After, Kind, Play, Scenario
from adversary.world import DAY, World, contents
from muster_models.errors import Reason
from muster_models.manifest import encode
from muster_models.trust import publisher
from muster_models.wire import DesiredModel
from support.repository import SignedRepository, make_signer


def serve_after_change(world: World, role: str, document: bytes) -> Reason | None:
    """Let a device that never saw the role meet a document in its place."""
    world.serve(world.path(role), document)
    return world.new_device().install(world.order(world.new))


def by_stranger(role: str) -> Play:
    def play(world: World) -> Reason | None:
        return serve_after_change(world, role, world.forge(role, signers=[make_signer()], bump=False))

    return play


def changed_after_signing(role: str) -> Play:
    def play(world: World) -> Reason | None:
        document: Metadata[Any] = Metadata.from_bytes(world.repository.document(role))
        document.signed.expires += DAY
        return serve_after_change(world, role, document.to_bytes())

    return play


def without_signature(role: str) -> Play:
    return lambda world: serve_after_change(world, role, world.forge(role, bump=False))


def replaced_by(role: str, content: bytes) -> Play:
    return lambda world: serve_after_change(world, role, content)


def without_canonical_form(role: str) -> Play:
    """Write a fraction where a whole number was signed: TUF's canonical form knows none."""

    def play(world: World) -> Reason | None:
        document = msgspec.json.decode(world.repository.document(role))
        document["signed"]["x-muster"]["issued"] += 0.5
        return serve_after_change(world, role, msgspec.json.encode(document))

    return play


def root_by_stranger(world: World) -> Reason | None:
    world.serve("metadata/2.root.json", world.forge("root", signers=[make_signer(), make_signer()]))
    return world.device.install(world.order(world.new))


def released_by(signers: Callable[[SignedRepository], list[Signer]]) -> Play:
    """Publish a release that these keys signed, with stolen online keys, and order it."""

    def play(world: World) -> Reason | None:
        device = world.device
        evil = encode(world.repository.manifest(contents("evil"), version="6.6.6", release=6))
        role, order = world.forge_release(evil, signers=signers(world.repository))
        world.publish({"model-digits": role})
        return device.install(order)

    return play


def with_forged_key_id(world: World) -> Reason | None:
    device = world.device
    evil = encode(world.repository.manifest(version="6.6.6", release=6))
    role, order = world.forge_release(evil, signers=[make_signer()])
    forged = msgspec.json.decode(role)
    forged["signatures"][0]["keyid"] = world.repository.release_keys["digits"][0].public_key.keyid
    world.publish({"model-digits": msgspec.json.encode(forged)})
    return device.install(order)


def with_one_signature_twice(world: World) -> Reason | None:
    pair = [make_signer(), make_signer()]
    world.repository.add_model("pumps", signers=pair, threshold=2)
    evil = encode(world.repository.manifest(model="pumps"))
    role = msgspec.json.decode(publisher.release(None, evil, signers=pair[:1], now=world.repository.now))
    role["signatures"] *= 2
    device = world.device
    world.serve(f"blobs/{world.repository.put_blob(evil).name}", evil)
    world.publish({"model-pumps": msgspec.json.encode(role)})
    return device.install(DesiredModel("pumps", "1.0.0", world.repository.put_blob(evil).name))


def other_file(name: str, *, longer: int = 0) -> Play:
    """Serve other bytes for one file of the version."""

    def play(world: World) -> Reason | None:
        entry = next(file for file in world.new.manifest.files if file.name == name)
        device = world.device
        world.serve(f"blobs/{entry.sha256}", b"x" * (entry.length + longer))
        return device.install(world.order(world.new))

    return play


def other_manifest(world: World) -> Reason | None:
    device = world.device
    evil = world.new.document.replace(b'"release":2', b'"release":7')
    world.serve(f"blobs/{world.new.digest}", evil)
    return device.install(world.order(world.new))


def unlisted_manifest(world: World) -> Reason | None:
    device = world.device
    evil = encode(world.repository.manifest(version="6.6.6", release=6))
    sha256 = world.repository.put_blob(evil).name
    return device.install(DesiredModel("digits", "6.6.6", sha256))


def portal(world: World) -> Reason | None:
    device = world.device
    for path in ("metadata/2.root.json", "metadata/timestamp.json"):
        world.serve(path, b"<html>Please log in</html>")
    return device.install(world.order(world.new))


ROLES = ("timestamp", "snapshot", "targets", "model-digits")
_ARBITRARY = Kind.ARBITRARY
_STOLEN = After.NEW_ONLINE_KEYS
SCENARIOS = (
    *(
        Scenario(
            f"stranger-signs-{role}",
            _ARBITRARY,
            MIRROR,
            f"signs {role} with a key of his own",
            Reason.WRONG_KEY,
            by_stranger(role),
        )
        for role in ROLES
    ),
    *(
        Scenario(
            f"change-{role}",
            _ARBITRARY,
            MIRROR,
            f"moves the expiry of {role} and keeps the signature",
            Reason.TAMPERED,
            changed_after_signing(role),
        )
        for role in ROLES
    ),
    *(
        Scenario(
            f"strip-{role}",
            _ARBITRARY,
            MIRROR,
            f"removes every signature of {role}",
            Reason.UNSIGNED,
            without_signature(role),
        )
        for role in ROLES
    ),
    *(
        Scenario(
            f"{word}-as-{role}",
            _ARBITRARY,
            MIRROR,
            f"serves {says} as {role}",
            Reason.TAMPERED,
            replaced_by(role, content),
        )
        for role in ROLES
        for word, says, content in (
            ("garbage", "random bytes", b"\x00\xff garbage"),
            ("depth", "10,000 open brackets", b"[" * 10_000),
            ("empty", "nothing", b""),
        )
    ),
    *(
        Scenario(
            f"fraction-in-{role}",
            _ARBITRARY,
            MIRROR,
            f"writes a number into {role} that has no canonical form",
            Reason.TAMPERED,
            without_canonical_form(role),
        )
        for role in ROLES
    ),
    Scenario(
        "stranger-signs-root",
        _ARBITRARY,
        MIRROR,
        "serves a next root that two strangers signed",
        Reason.WRONG_KEY,
        root_by_stranger,
    ),
    *(
        Scenario(
            f"{who}-releases",
            _ARBITRARY,
            f"{keys}, and the online keys",
            "lists a version of another model's role holder",
            reason,
            released_by(signers),
            after=_STOLEN,
        )
        for who, keys, reason, signers in (
            ("nobody", "no key", Reason.UNSIGNED, lambda _r: []),
            (
                "other-model",
                "another model's release key",
                Reason.WRONG_KEY,
                lambda r: r.release_keys["weather"],
            ),
            ("director", "the director key", Reason.WRONG_KEY, lambda r: [r.director_key]),
            ("online", "the online keys", Reason.WRONG_KEY, lambda r: [r.timestamp_key, r.snapshot_key]),
            ("targets", "the targets key", Reason.WRONG_KEY, lambda r: [r.targets_key]),
            ("root", "every root key", Reason.WRONG_KEY, lambda r: r.roots),
        )
    ),
    Scenario(
        "forged-key-id",
        _ARBITRARY,
        "the online keys",
        "writes the id of the release key over his own signature",
        Reason.TAMPERED,
        with_forged_key_id,
        after=_STOLEN,
    ),
    Scenario(
        "one-signature-twice",
        _ARBITRARY,
        "one of two release keys, and the online keys",
        "repeats one signature to reach a threshold of two",
        Reason.TAMPERED,
        with_one_signature_twice,
        after=_STOLEN,
    ),
    *(
        Scenario(
            f"other-{name.partition('.')[0]}-file",
            _ARBITRARY,
            MIRROR,
            f"serves other bytes of the same length as {name}",
            Reason.TAMPERED,
            other_file(name),
        )
        for name in ("model.onnx", "baseline.bin", "golden.bin")
    ),
    Scenario(
        "other-manifest",
        _ARBITRARY,
        MIRROR,
        "changes the release number in the manifest, same length",
        Reason.TAMPERED,
        other_manifest,
    ),
    Scenario(
        "unlisted-manifest",
        _ARBITRARY,
        "the mirror and the director key",
        "orders a manifest that no role lists",
        Reason.NOT_LISTED,
        unlisted_manifest,
    ),
    Scenario(
        "captive-portal",
        _ARBITRARY,
        NETWORK,
        "answers every path with a page of his own",
        Reason.TAMPERED,
        portal,
    ),
)
