"""Lets msgspec get to know every type of ours while there is one thread.

What a type looks like is found out at its first use, and msgspec 0.22 ends the process with a segmentation
fault when two threads first use one at the same time.
"""

from collections.abc import Iterator

import msgspec


def know_types() -> None:
    """Call this before the first thread is started; it knows what is imported by then."""
    for kind in _below(msgspec.Struct):
        msgspec.msgpack.Decoder(kind)


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
