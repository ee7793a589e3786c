"""Edits of TFLite files that know where the fields of their tables lie."""

import random
import struct
from collections.abc import Iterator

import tflite

WORDS = (0, 1, 2, 3, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def edit(data: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three fields of its tables changed."""
    damaged = bytearray(data)
    tables = list(_tables(data))
    for _ in range(chance.choice((1, 1, 2, 3))):
        _edit_field(damaged, chance.choice(tables), chance)
    return bytes(damaged)


def _tables(data: bytes) -> Iterator[int]:
    """Yield where the tables of a good file lie."""
    model = tflite.Model.GetRootAs(data, 0)
    yield model._tab.Pos
    yield from (model.Buffers(number)._tab.Pos for number in range(model.BuffersLength()))
    yield from (model.OperatorCodes(number)._tab.Pos for number in range(model.OperatorCodesLength()))
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        yield graph._tab.Pos
        yield from (graph.Operators(index)._tab.Pos for index in range(graph.OperatorsLength()))
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            yield tensor._tab.Pos
            if (quantisation := tensor.Quantization()) is not None:
                yield quantisation._tab.Pos


def _edit_field(data: bytearray, table: int, chance: random.Random) -> None:
    """Change a field, the vector or table that it points to, or whether it is there."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    if not 0 <= layout <= len(data) - 4:  # an edit before this one hit the way here
        return
    fields = (struct.unpack_from("<H", data, layout)[0] - 4) // 2
    slots = [layout + 4 + 2 * number for number in range(min(fields, 64))]
    held = [slot for slot in slots if slot + 2 <= len(data) and data[slot : slot + 2] != b"\0\0"]
    if not held:
        return
    slot = chance.choice(held)
    at = table + struct.unpack_from("<H", data, slot)[0]
    match chance.randrange(5):
        case 0:
            struct.pack_into("<H", data, slot, chance.choice((0, 4, 8, 0xFFFF)))
        case 1:
            _put(data, at, struct.pack("<I", chance.choice(WORDS)))
        case 2 if at < len(data):
            _put(data, at, bytes([(data[at] + chance.choice((1, 255))) % 256]))
        case _ if at + 4 <= len(data):
            _edit_vector(data, at + struct.unpack_from("<I", data, at)[0], chance)


def _edit_vector(data: bytearray, at: int, chance: random.Random) -> None:
    if at + 4 > len(data):
        return
    length = struct.unpack_from("<I", data, at)[0]
    element = chance.randrange(min(max(length, 1), 4096))
    where = at if chance.random() < 0.2 else at + 4 + 4 * element
    _put(data, where, struct.pack("<I", chance.choice(WORDS)))


def _put(data: bytearray, at: int, content: bytes) -> None:
    if at + len(content) <= len(data):
        data[at : at + len(content)] = content
