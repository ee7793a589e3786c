"""The command line of a device: every command explains itself, and what is wrong is one line."""

import pytest

from muster_agent.__main__ import main
from muster_models import __version__

COMMANDS = ("enrol", "run", "status", "rollback", "check", "infer", "doctor")


def status_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, said = status_of(capsys, command, "--help")

    assert status == 0
    assert f"usage: muster-agent {command}" in said


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = status_of(capsys, "--help")

    assert all(command in said for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("enrol",),
        ("status",),
        ("status", "f", "-o", "xml"),
        ("frobnicate",),
        ("rollback", "f"),
        ("infer", "f", "m"),
    ],
)
def test_wrong_usage_ends_with_two(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert status_of(capsys, *arguments)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("doctor", "nowhere"), "muster-agent enrol URL TOKEN --folder nowhere"),
        (("infer", "nowhere", "m", "--in", "x.csv", "--out", "y.csv"), "no agent answers at nowhere"),
        (("status", "nowhere"), "muster-agent enrol URL TOKEN --folder nowhere"),
        (("run", "nowhere"), "muster-agent enrol URL TOKEN --folder nowhere"),
        (("rollback", "nowhere", "digits"), "muster-agent enrol URL TOKEN --folder nowhere"),
        (("enrol", "https://h", "token", "--folder", "f"), "expected a token of the form mst1."),
        (("enrol", "h", f"mst1.press-1.{'s' * 32}.{'0' * 64}", "--folder", "f"), "expected a URL https://"),
    ],
)
def test_bad_input_is_one_line_with_the_expected_form(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    status, output = status_of(capsys, *arguments)

    assert status == 1
    assert said in output
    assert output.startswith("muster-agent: ")
    assert output.count("\n") == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(capsys, "--version") == (0, f"muster-agent {__version__}\n")


@pytest.mark.parametrize("rows", ["0", "-3", "many", "1.5"])
def test_a_number_of_rows_is_a_whole_number(capsys: pytest.CaptureFixture[str], rows: str) -> None:
    status, said = status_of(capsys, "infer", "f", "m", "--in", "a.csv", "--out", "b.csv", f"--rows={rows}")

    assert status == 2
    assert f"argument --rows: expected a whole number from 1 on, got '{rows}'" in said
