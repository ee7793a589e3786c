"""Damage to bytes: what disks, proxies and attackers do to a file."""

import random
import struct

BOUNDARIES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return ``data`` with one to eight places flipped, overwritten, cut, repeated or inserted."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(damaged)) if damaged else 0
        length = min(chance.choice((1, 4, 16, 256)), len(damaged) - at)
        match chance.randrange(6):
            case 0 if damaged:
                damaged[at] ^= 1 << chance.randrange(8)
            case 1:
                damaged[at : at + 4] = struct.pack("<I", chance.choice(BOUNDARIES))
            case 2:
                del damaged[at : at + length]
            case 3:
                damaged[at:at] = damaged[at : at + length]
            case 4:
                damaged[at:at] = chance.randbytes(length)
            case _:
                # Another place of the same file: well-formed pieces where they do not belong.
                other = chance.randrange(len(damaged)) if damaged else 0
                damaged[at : at + length] = damaged[other : other + length]
    return bytes(damaged[: chance.randrange(len(damaged) + 1)] if chance.randrange(16) == 0 else damaged)
