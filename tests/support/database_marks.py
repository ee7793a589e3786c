"""Marks of tests that are about what every database must do; apart, because benchmarks have no pytest."""

import pytest

from support.databases import KINDS

BOTH = pytest.mark.parametrize("database", KINDS, indirect=True)
POSTGRES = pytest.mark.parametrize("database", ["postgres"], indirect=True)
