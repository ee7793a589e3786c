"""The documents name only what exists: files, tests, headings, commands and their options."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.__main__ import main as run_agent
from muster_controller.__main__ import app as controller_app
from muster_controller.cli.__main__ import make_app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in DOCUMENTS}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!\w+:)([^)\s]*)\)")
PATH = re.compile(
    r"(?:tests|scripts|benchmarks|docs|models|agent|controller|requirements)/[\w./*-]*(?:::\w+)?"
)
COMMAND = re.compile(r"(?<![\w./-])(muster(?:-agent|-controller)?)((?: +[^\s;|&)#]+)+)")
OPTION = re.compile(r"--[a-z-]+")


def spans(text: str) -> list[str]:
    """Return what stands in backticks within prose."""
    return SPAN.findall(FENCED.sub("", text))


def code(text: str) -> Iterator[str]:
    """Yield what is code: blocks without a language, and spans."""
    for language, block in FENCED.findall(text):
        if not language:
            yield from block.replace("\\\n", " ").splitlines()
    yield from spans(text)


def anchors(text: str) -> set[str]:
    """Return what a link may name behind ``#``."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> list[tuple[str, str]]:
    """Return every program and its arguments that a document names."""
    found = {
        (program, " ".join(arguments.split()))
        for text in TEXTS.values()
        for line in code(text)
        for program, arguments in COMMAND.findall(line)
    }
    return sorted(found)


def help_of(program: str, arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help of a command, which must exist."""
    words = [word for word in arguments.split() if not word.startswith("-")]
    match program:
        case "muster-agent":
            with pytest.raises(SystemExit) as ended:
                run_agent([*words[:1], "--help"])
            assert ended.value.code == 0, f"{program} {arguments}"
        case "muster-controller":
            assert words[0] in controller_app, f"{program} {arguments}"
            controller_app([words[0], "--help"], result_action="return_value")
        case _:
            app = make_app()
            assert words[0] in app, f"{program} {arguments}"
            deep = app[words[0]].default_command is None and len(words) > 1
            assert not deep or words[1] in app[words[0]], f"{program} {arguments}"
            app([*words[: 1 + deep], "--help"], result_action="return_value")
    return capsys.readouterr().out


@pytest.mark.parametrize("name", TEXTS)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    for target in LINK.findall(TEXTS[name]):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name

        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_and_test_that_is_named_exists(name: str) -> None:
    for span in spans(TEXTS[name]):
        for named in PATH.findall(span) if PATH.match(span) else ():
            path, _, test = named.partition("::")
            files = list(ROOT.glob(path.rstrip("/")))

            assert len(files) > 0, named
            assert not test or f"def {test}(" in files[0].read_text(), named


def test_documents_name_many_commands() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize(("program", "arguments"), commands())
def test_every_command_that_is_named_answers_with_its_help(
    program: str, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(program, arguments, capsys)

    for option in OPTION.findall(arguments):
        assert option in text, option
