"""The code of a key: the same however it is typed, another one for another key."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from muster_models.keycode import ALPHABET, BITS, SYMBOLS, code_of, fingerprint, normalise

keys = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(keys)
def test_a_code_holds_the_first_bits_of_the_fingerprint(key: str) -> None:
    plain = code_of(key).replace("-", "")
    number = 0
    for symbol in plain:
        number = number << BITS | ALPHABET.index(symbol)

    assert len(plain) == SYMBOLS
    assert number == int(key, 16) >> (256 - BITS * SYMBOLS)


@given(keys, st.booleans())
def test_a_code_is_understood_as_people_type_it(key: str, is_lower: bool) -> None:  # noqa: FBT001 - drawn
    code = code_of(key)
    typed = code.replace("-", " ").replace("0", "O").replace("1", "l")

    assert normalise(typed.lower() if is_lower else typed) == code


@given(st.text(max_size=40))
def test_whatever_is_typed_is_a_code_or_none(typed: str) -> None:
    assert isinstance(normalise(typed), str)


def test_the_fingerprint_of_a_key_is_its_sha256() -> None:
    assert fingerprint(b"key") == hashlib.sha256(b"key").hexdigest()
