"""What is written into a TOML file is read back, and what anyone makes of the file is read or refused."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct

from muster_models import toml_file
from muster_models.errors import InvalidInputError, Reason


class Pair(Struct, frozen=True, forbid_unknown_fields=True):
    left: str
    right: float = 1.5


class Everything(Struct, frozen=True, forbid_unknown_fields=True):
    """Every kind of value that settings have."""

    word: str
    nested: Pair
    pairs: tuple[Pair, ...] = ()
    words: tuple[str, ...] = ("a",)
    by_name: dict[str, int] = {}
    share: float = 0.5
    count: int = 1
    on: bool = True
    maybe: str | None = None


TEXTS = st.text()
NUMBERS = st.floats(allow_nan=False)
PAIRS = st.builds(Pair, TEXTS, NUMBERS)
EVERYTHING = st.builds(
    Everything,
    TEXTS,
    PAIRS,
    pairs=st.lists(PAIRS, max_size=3).map(tuple),
    words=st.lists(TEXTS, max_size=3).map(tuple),
    by_name=st.dictionaries(TEXTS, st.integers(-(2**63), 2**63 - 1), max_size=3),
    share=NUMBERS,
    count=st.integers(-(2**63), 2**63 - 1),
    on=st.booleans(),
    maybe=st.none() | TEXTS,
)


@given(EVERYTHING)
@example(Everything("\x7f", Pair("\x00\t\"'\\\u2028\U0001f600")))
def test_whatever_is_written_reads_back(content: Everything) -> None:
    text = toml_file.render(content)

    assert toml_file.parse(text.encode(), Everything, name="settings") == content


@given(st.integers(0, 0x10FFFF).filter(lambda code: not 0xD800 <= code < 0xE000).map(chr))
@example("\x7f")
def test_every_character_reads_back(character: str) -> None:
    text = toml_file.render(Pair(character))

    assert toml_file.parse(text.encode(), Pair, name="settings").left == character


def test_every_default_is_written_out() -> None:
    text = toml_file.render(Everything("w", Pair("l")))

    assert text == (
        'word = "w"\npairs = []\nwords = ["a"]\nshare = 0.5\ncount = 1\non = true\n'
        '\n[nested]\nleft = "l"\nright = 1.5\n\n[by_name]\n'
    )


@given(st.binary(max_size=300) | st.integers(0, 5_000).map(lambda depth: b"word = " + b"[" * depth))
def test_any_bytes_are_read_or_refused_with_their_name(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"\Asettings: ") as caught:
        toml_file.parse(data, Everything, name="settings")

    assert caught.value.reason is Reason.BAD_SETTING


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('left = "l"\nright = "high"', r"Expected `float`, got `str` - at `$.right`"),
        ("right = 1.0", "missing required field `left`"),
        ('left = "l"\nlfet = 1', "unknown field `lfet`"),
    ],
)
def test_a_wrong_key_is_named_with_file_and_expected_form(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text)

    with pytest.raises(InvalidInputError, match=re.escape(said)) as caught:
        toml_file.load(path, Pair, missing="make it")

    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_says_how_it_is_made_and_an_unreadable_one_why(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"some\.toml: not found; make it"):
        toml_file.load(tmp_path / "some.toml", Pair, missing="make it")
    with pytest.raises(InvalidInputError, match="Is a directory"):
        toml_file.load(tmp_path, Pair, missing="make it")
