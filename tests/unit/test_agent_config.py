"""Settings of a device: written once by enrolment, read at each start, refused with the key that is wrong."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.config import Broker, Folder, Settings, load_settings
from muster_models import toml_file
from muster_models.engine import EngineOptions
from muster_models.errors import InvalidInputError, Reason
from support.fixtures import ROOT

SETTINGS = Settings(
    device="press-1",
    controller="https://127.0.0.1:8421",
    repository="https://127.0.0.1:8421/repository",
    mqtt=Broker("127.0.0.1", 8883),
)


def written(folder: Path, text: str) -> Folder:
    (folder / "agent.toml").write_text(text)
    return Folder(folder)


def test_what_is_written_reads_back_with_every_default_spelt_out(tmp_path: Path) -> None:
    text = toml_file.render(SETTINGS)

    assert load_settings(written(tmp_path, text)) == SETTINGS
    assert "refresh_seconds = 3600.0" in text


@given(host=st.from_regex(r"[A-Za-z0-9._:%-]{1,40}", fullmatch=True), days=st.floats(0.001, 1e6))
def test_any_legal_value_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, host: str, days: float
) -> None:
    settings = msgspec.structs.replace(SETTINGS, mqtt=Broker(host, 1), outbox_days=days)
    folder = written(tmp_path_factory.mktemp("device"), toml_file.render(settings))

    assert load_settings(folder) == settings


def test_a_folder_that_was_never_enrolled_says_how_to_enrol_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="muster-agent enrol URL TOKEN --folder"):
        load_settings(Folder(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port = 8883", "port = 0", r"mqtt\.port"),
        ('host = "127.0.0.1"', 'host = "broker host"', r"mqtt\.host"),
        ('host = "127.0.0.1"', 'host = "broker\\n"', r"mqtt\.host"),
        ("port = 8883", 'port = "8883"', r"Expected `int`.*mqtt\.port"),
        ('isolation = "process"', 'isolation = "none"', "isolation"),
        ('device = "press-1"', 'device = "Press 1"', "device"),
        ('controller = "https:', 'controller = "ftp:', "controller"),
        ("serve_port = 0", "sevre_port = 0", "sevre_port"),
        ("tick_seconds = 1.0", "tick_seconds = ", "Invalid value"),
        ("threads = 1", "threads = 0", r"engine\.threads"),
        ("onnx_providers = []", "providers = []", "providers"),
        ("options = {}", "options = {a = {b = 1}}", r"Expected `str`.*engine\.options"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = toml_file.render(SETTINGS)
    assert old in text

    with pytest.raises(InvalidInputError, match=said) as caught:
        load_settings(written(tmp_path, text.replace(old, new)))

    assert str(tmp_path / "agent.toml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.reason is Reason.BAD_SETTING


@given(
    st.builds(
        EngineOptions,
        onnx_providers=st.lists(st.text(max_size=20), max_size=8).map(tuple),
        tflite_delegates=st.lists(st.text(max_size=20), max_size=8).map(tuple),
        options=st.dictionaries(
            st.text(max_size=20), st.dictionaries(st.text(max_size=9), st.text(max_size=9))
        ),
        devices=st.lists(st.text(max_size=20), max_size=4).map(tuple),
        threads=st.integers(1, 64),
    )
)
def test_what_a_device_asks_of_its_engines_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, engine: EngineOptions
) -> None:
    settings = msgspec.structs.replace(SETTINGS, engine=engine)
    folder = written(tmp_path_factory.mktemp("device"), toml_file.render(settings))

    assert load_settings(folder) == settings


def test_the_engine_settings_that_the_documentation_shows_are_read(tmp_path: Path) -> None:
    shown = (ROOT / "docs/device.md").read_text().partition("```toml\n")[2].partition("```")[0]
    text = toml_file.render(SETTINGS).partition("[engine]")[0]
    engine = load_settings(written(tmp_path, text + shown)).engine

    assert engine.accelerates("onnx")
    assert engine.accelerates("tflite")
    assert engine.options == {engine.tflite_delegates[0]: {"device": "usb"}}
    assert (engine.threads, engine.on_cpu()) == (2, EngineOptions(threads=2))


@given(st.binary(max_size=200))
def test_a_damaged_file_ends_in_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = Folder(tmp_path_factory.mktemp("device"))
    folder.settings.write_bytes(content)

    with pytest.raises(InvalidInputError):
        load_settings(folder)
