"""A controller that takes a request and hangs up without an answer, as the command line tells it."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

MUSTER = Path(sys.executable).parent / "muster"
SECONDS = 60.0
WARNING = "it may have done what was asked: look before you ask again"


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of one who reads a request and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # closed at the end
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)


def ask(url: str, folder: Path, *words: str) -> str:
    """Return what a command says that fails."""
    token = folder / "token"
    token.write_text("secret")
    done = subprocess.run(
        [str(MUSTER), *words, "--url", url, "--token-file", str(token)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_an_order_whose_answer_is_lost_may_have_been_carried_out(silent: str, tmp_path: Path) -> None:
    said = ask(silent, tmp_path, "rollout", "start", "digits@1.0.0")

    assert said.startswith(f"muster: {silent}: no answer from the controller: ")
    assert said.endswith(f"; {WARNING}\n")


def test_a_question_may_be_asked_again(silent: str, tmp_path: Path) -> None:
    said = ask(silent, tmp_path, "status")

    assert "no answer from the controller" in said
    assert WARNING not in said
