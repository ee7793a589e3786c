"""Asking without a token, from the machine's side: what it shows, what it accepts, and how it goes on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from muster_agent.config import Folder, load_settings
from muster_agent.request import request
from muster_controller.pki import Authority
from muster_models import keycode
from muster_models.errors import InvalidInputError, MessageError, Reason, TransferError, TrustError
from support import device_side
from support.controller import make_authority

ROOT = json.dumps({"signed": {"_type": "root", "version": 1}, "signatures": []})


@dataclass
class Gate:
    """A controller that says ``pending`` so often, and then gives its answer."""

    side: device_side.DeviceSide
    folder: Folder
    pending: int = 2
    state: str = "enrolled"
    device: str = "press-1"
    csrs: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    patience: int = 10

    def answer(self, body: dict[str, Any], _peer: str | None) -> device_side.Answer:
        self.csrs.append(body["csr"])
        if len(self.csrs) <= self.pending:
            return 200, json.dumps({"state": "pending", "code": "WRONG-WRONG", "enrolment": None}).encode()
        enrolment = {
            "device": self.device,
            "certificate": device_side.sign(self.side.authority, "press-1", body["csr"]),
            "ca": self.side.authority.pem,
            "root": ROOT,
            "mqtt": {"host": "127.0.0.1", "port": 8883},
            "repository": "https://127.0.0.1:8421/repository",
        }
        given = enrolment if self.state == "enrolled" else None
        return 200, json.dumps({"state": self.state, "code": "", "enrolment": given}).encode()

    def wait(self, _seconds: float) -> bool:
        self.patience -= 1
        return self.patience > 0

    def request(self, device: str = "press-1", ca: str | None = None) -> None:
        request(
            self.side.url,
            device,
            self.folder,
            ca=ca or self.side.authority.fingerprint,
            show=self.shown.append,
            wait=self.wait,
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def gate(authority: Authority, tmp_path: Path) -> Iterator[Gate]:
    with device_side.serving(authority) as side:
        made = Gate(side, Folder(tmp_path / "device"))
        side.handlers["/enrol/ask"] = made.answer
        yield made


def test_a_machine_waits_and_becomes_what_it_asked_for(gate: Gate) -> None:
    gate.request()

    assert load_settings(gate.folder).device == "press-1"
    assert (len(gate.csrs), len(set(gate.csrs))) == (3, 1)  # one key, whatever the number of questions


def test_the_code_it_shows_is_of_its_own_key_whatever_the_controller_says(gate: Gate) -> None:
    gate.request()
    public = x509.load_pem_x509_csr(gate.csrs[0].encode()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert gate.shown == [keycode.code_of(keycode.fingerprint(spki))]


def test_a_machine_that_was_let_in_before_it_asked_again_shows_no_code(gate: Gate) -> None:
    gate.pending = 0
    gate.request()

    assert gate.shown == []


def test_when_nobody_decides_the_same_key_asks_the_next_time(gate: Gate) -> None:
    gate.pending, gate.patience = 5, 3
    with pytest.raises(TransferError, match="nobody has let press-1 in") as late:
        gate.request()
    gate.patience = 10
    gate.request()

    assert late.value.reason is Reason.TIMED_OUT
    assert (len(gate.shown), len(set(gate.shown))) == (2, 1)
    assert gate.folder.settings.exists() is True


def test_a_refusal_is_final_and_leaves_no_device(gate: Gate) -> None:
    gate.state = "refused"

    with pytest.raises(TrustError, match="an operator refused") as refused:
        gate.request()

    assert (refused.value.reason, gate.folder.settings.exists()) == (Reason.ORDERED, False)


def test_it_becomes_nobody_else(gate: Gate) -> None:
    gate.device = "press-2"

    with pytest.raises(TrustError, match="expected to become press-1"):
        gate.request()
    assert gate.folder.settings.exists() is False


def test_a_stranger_in_the_controllers_place_is_asked_nothing(gate: Gate) -> None:
    with pytest.raises(TrustError, match="expected the CA abab"):
        gate.request(ca="ab" * 32)

    assert gate.csrs == []


def test_an_enrolled_folder_and_an_illegal_id_are_refused_before_anybody_is_asked(gate: Gate) -> None:
    with pytest.raises(MessageError):
        gate.request("../evil")
    gate.request()
    asked = len(gate.side.requests)

    with pytest.raises(InvalidInputError, match="already enrolled"):
        gate.request()
    assert len(gate.side.requests) == asked
