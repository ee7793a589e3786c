"""A whole agent with a model of the zoo, as the programs beside it see it: stock client, batch, ``Model``."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from msgspec.structs import replace

from muster_agent import Model
from muster_agent.config import load_settings
from muster_models import toml_file
from story.ports import free_port
from support import agent_site
from support.agent_site import AgentSite
from zoo.digits import data as digits


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path_factory.mktemp("site")) as site:
        settings = replace(load_settings(site.device), serve_port=port)
        site.device.settings.write_text(toml_file.render(settings))
        version = site.release_digits("1.0.0")
        process = site.start_agent()
        site.want(version)
        site.until_committed(version)
        yield site
        process.terminate()
        process.wait(60)


ROWS = digits.rows("live")


def accuracy(probabilities: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> float:
    return float((probabilities.argmax(axis=1) == digits.answers("live")).mean())


def test_the_stock_client_has_the_model_answer_over_loopback(site: AgentSite, port: int) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    (name, rows), *_ = ROWS.items()
    given = triton.InferInput(name, list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    before = client.get_inference_statistics("digits", "1.0.0")["model_stats"][0]["inference_count"]
    answer = client.infer(
        "digits", [given], request_compression_algorithm="gzip", response_compression_algorithm="gzip"
    )
    after = client.get_inference_statistics("digits", "1.0.0")["model_stats"][0]["inference_count"]
    client.close()

    assert accuracy(answer.as_numpy("probabilities")) > 0.9
    assert after - before == len(rows)


def test_a_file_is_answered_by_the_command(site: AgentSite, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **ROWS)  # type: ignore[arg-type]  # by the names of the inputs
    done = site.command(
        "infer", site.device.root, "digits", "--in", tmp_path / "rows.npz", "--out", tmp_path / "out.npz",
        "--rows", "64", "-o", "json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "1.0.0"
    assert "(100%) rows" in done.stderr
    assert accuracy(np.load(tmp_path / "out.npz")["probabilities"]) > 0.9


def test_an_application_needs_few_lines(site: AgentSite) -> None:
    with Model("digits", site.device.root) as model:
        assert accuracy(model.predict(ROWS)["probabilities"]) > 0.9


def test_the_device_tells_how_it_is(site: AgentSite) -> None:
    hello = site.hellos[-1].health
    report = site.reports[-1].health

    assert hello is not None
    assert report is not None
    assert report.memory_bytes > 20_000_000  # the agent and its worker
    assert hello.behind_seconds == 0.0
