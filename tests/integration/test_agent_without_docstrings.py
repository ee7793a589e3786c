"""The whole agent under ``PYTHONOPTIMIZE=2``, as small devices may run it: nothing hangs on an assertion."""

from pathlib import Path

import pytest

from muster_agent import Client
from muster_models.errors import Reason
from support import agent_site
from support.repository import make_signer
from zoo.digits import data as digits


def test_an_agent_without_assertions_installs_answers_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    with agent_site.running(tmp_path) as site:
        version = site.release_digits("1.0.0")
        process = site.start_agent()
        try:
            desired = site.want(version)
            site.until_committed(version)
            site.send(site.repository.envelope(desired, signer=make_signer()))
            site.until_event("refused", Reason.WRONG_KEY)
            with Client(site.device.root) as client:
                answer = client.predict("digits", digits.rows("live"))
        finally:
            process.terminate()
            process.wait(60)

    found = answer["probabilities"].argmax(axis=1)

    assert (found == digits.answers("live")).mean() > 0.85
