"""What the gate refuses in a TFLite file, one thing at a time, and that it says what and where."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import tflite

from muster_models.errors import Reason
from muster_models.runtime import load
from support.gate import accept, refusal
from support.tflite_models import File, Operator, Subgraph, Tensor, loop, pool, with_operators, with_tensor

CODES = tflite.BuiltinOperator
SIMPLE = Subgraph()


def with_subgraph(**changes: object) -> File:
    return File(subgraphs=(replace(SIMPLE, **changes),))  # type: ignore[arg-type]  # the cases name real fields


def nested(depth: int) -> File:
    """Return a file in which each subgraph loops over the next one."""
    loops = [Operator(options=loop(index + 1, index + 1)) for index in range(depth)]
    return File(
        codes=(CODES.WHILE,), subgraphs=(*(replace(SIMPLE, operators=(held,)) for held in loops), LEAF)
    )


LEAF = replace(SIMPLE, operators=(), outputs=(0,))
CASES: dict[str, tuple[File, str]] = {
    "another schema": (File(version=4), "expected schema version 3, got 4"),
    "no subgraph": (File(subgraphs=()), "expected at least one subgraph"),
    "an unknown operator": (File(codes=(9999,)), "operatorcode 0: unknown operator 9999"),
    "a custom operator": (File(codes=(CODES.CUSTOM,), custom="acme"), "CUSTOM runs code .*, got 'acme'"),
    "an operator number out of range": (with_operators(Operator(code=7)), "expected a number below 1, got 7"),
    "a tensor number out of range": (
        with_operators(Operator(inputs=(9,))),
        "expected a number below 2, got 9",
    ),
    "a negative tensor number": (with_operators(Operator(inputs=(-2,))), "expected a number below 2, got -2"),
    "an output number out of range": (with_subgraph(outputs=(5,)), "inputs and outputs: expected .*, got 5"),
    "no output": (with_subgraph(outputs=()), "expected an output, got none"),
    "an output that nobody writes": (with_subgraph(operators=()), "output tensor 1 is never written"),
    "a tensor read before it is written": (
        with_operators(Operator(inputs=(1,))),
        "operator 0: reads tensor 1 before any operator writes it",
    ),
    "a tensor written twice": (
        with_operators(Operator(), Operator()),
        "operator 1: writes tensor 1, which already",
    ),
    "an input that is written": (with_operators(Operator(outputs=(0,))), "writes tensor 0, which already"),
    "a buffer number out of range": (with_tensor(1, buffer=3), "tensor 1: buffer: expected .*, got 3"),
    "negative dimensions": (with_tensor(0, shape=(-5, 4)), r"length 0 or more, got \[-5, 4\]"),
    "too many axes": (with_tensor(0, shape=(1,) * 9), "at most 8 axes"),
    "a tensor larger than memory": (with_tensor(0, shape=(65536, 65536)), "at most 1073741824 bytes"),
    "a product that overflows": (with_tensor(0, shape=(2**31 - 1,) * 4), "at most 1073741824 bytes"),
    "an unknown type": (with_tensor(0, kind=77), "tensor 0: unknown type 77"),
    "a constant too small for its shape": (
        replace(with_tensor(0, buffer=1, shape=(1000,)), buffers=(b"", bytes(16))),
        r"FLOAT32\[1000\] has 4000 bytes, its buffer holds 16",
    ),
    "a scale that is not a number": (with_tensor(0, scales=(float("nan"),)), "scales must be finite"),
    "scales that do not fit their axis": (
        with_tensor(0, scales=(1.0, 1.0), axis=3),
        "2 scales do not fit axis 3",
    ),
    "a stride of zero": (
        replace(with_operators(Operator(options=pool(0))), codes=(CODES.MAX_POOL_2D,)),
        r"\(MAX_POOL_2D\): StrideW must be 1 or more",
    ),
    "options of another kind": (
        replace(with_operators(Operator(options=loop(0, 0))), codes=(CODES.MAX_POOL_2D,)),
        "expected options of the kind Pool2DOptions",
    ),
    "a loop without options": (File(codes=(CODES.WHILE,)), "expected options of the kind WhileOptions"),
    "a loop over a subgraph that does not exist": (
        replace(with_operators(Operator(options=loop(0, 5))), codes=(CODES.WHILE,)),
        "subgraph: expected a number below 1, got 5",
    ),
    "a loop whose body is itself": (
        replace(with_operators(Operator(options=loop(0, 0))), codes=(CODES.WHILE,)),
        "subgraph 0 calls itself",
    ),
    "loops within loops within loops": (nested(8), "call each other at most 8 deep"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_tflite_file_is_refused_for(case: str, tmp_path: Path) -> None:
    file, message = CASES[case]

    assert re.search(message, str(refusal("tflite", file.encode(), tmp_path))) is not None


def test_the_simple_file_that_the_cases_change_is_accepted_and_runs(tmp_path: Path) -> None:
    accept("tflite", File().encode(), tmp_path)

    assert load("tflite", tmp_path / "model.tflite").outputs[0].shape == (1,)


def test_loops_that_nest_a_little_are_accepted(tmp_path: Path) -> None:
    accept("tflite", nested(7).encode(), tmp_path)


def test_a_tensor_without_values_may_be_written(tmp_path: Path) -> None:
    accept("tflite", with_tensor(1, shape=(0, 4)).encode(), tmp_path)


def test_what_is_too_large_is_refused_with_that_reason(tmp_path: Path) -> None:
    refused = refusal("tflite", with_tensor(0, shape=(65536, 65536)).encode(), tmp_path)

    assert refused.reason is Reason.TOO_LARGE


def test_a_vector_whose_length_lies_is_refused_without_walking_it(tmp_path: Path) -> None:
    data = bytearray(File(subgraphs=(replace(SIMPLE, tensors=(Tensor(shape=(3, 1, 4)), Tensor())),)).encode())
    at = data.index(b"\x03\0\0\0\x03\0\0\0\x01\0\0\0\x04\0\0\0")
    data[at : at + 4] = (2**31 - 1).to_bytes(4, "little")

    assert "the parts of the file add up to more" in str(refusal("tflite", bytes(data), tmp_path))


def test_tables_that_share_their_bytes_are_refused_without_walking_all_of_them(tmp_path: Path) -> None:
    wide = replace(SIMPLE, operators=(Operator(inputs=(0,) * 4000),))
    accept("tflite", File(subgraphs=(wide,)).encode(), tmp_path)

    refused = refusal("tflite", File(subgraphs=(wide,), repeat=4000).encode(), tmp_path)

    assert "the parts of the file add up to more" in str(refused)
