"""The short code by which two people, one at a device and one at the controller, know that they mean one key.

Pure: no files, no network, no clock.
"""

import hashlib

# Crockford's base 32: no letter that is read as a digit.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BITS = 5
SYMBOLS = 10  # 50 bits: a second key with the code of a given one takes 10^15 tries within the hour
ALIASES = str.maketrans("ILO", "110", "- ")


def fingerprint(public: bytes) -> str:
    """Return the SHA-256 of a public key (DER, SubjectPublicKeyInfo), in hex."""
    return hashlib.sha256(public).hexdigest()


def code_of(fingerprint: str) -> str:
    """Return the code of a key by its fingerprint, such as ``7K2QD-M90XA``.

    >>> code_of("00" * 31 + "ff")
    '00000-00000'
    >>> code_of("ff" * 32)
    'ZZZZZ-ZZZZZ'
    """
    number = int(fingerprint, 16) >> (256 - BITS * SYMBOLS)
    digits = [ALPHABET[number >> (BITS * place) & 31] for place in reversed(range(SYMBOLS))]
    return "".join(digits[:5]) + "-" + "".join(digits[5:])


def normalise(typed: str) -> str:
    """Return a code as ``code_of`` writes it, from what somebody typed or read out.

    >>> normalise("7k2qdm9oxa")
    '7K2QD-M90XA'
    """
    plain = typed.upper().translate(ALIASES)
    return f"{plain[:5]}-{plain[5:]}"
