"""A PKCS#11 token in software: Debian's SoftHSM2, with one elliptic key as a hardware token would hold it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

SCRIPT = Path(__file__).parents[2] / "scripts/softhsm"
PIN = "123456"


@dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
        uri: Names its key.
        environment: What a process needs to use it without being asked.
    """

    uri: str
    environment: dict[str, str]


def make_token(folder: Path, label: str = "ceremony") -> Token:
    """Make a token in ``folder`` with a P-256 key of id 2. It fails where SoftHSM2 is not installed."""
    module = subprocess.run([SCRIPT], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = folder / "import.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
    run(settings, "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN)
    run(settings, "--import", str(pem), "--token", label, "--label", "key", "--id", "02", "--pin", PIN)
    pem.unlink()
    return Token(f"hsm:2?label={label}", {**settings, "PYKCS11LIB": module, "MUSTER_PIN": PIN})


def run(settings: dict[str, str], *arguments: str) -> None:
    environment = {**os.environ, **settings}
    subprocess.run(["softhsm2-util", *arguments], env=environment, capture_output=True, check=True)
