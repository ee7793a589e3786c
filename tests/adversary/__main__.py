"""Writes the table of all scenarios to standard output."""

import sys

from adversary.catalogue import SCENARIOS
from adversary.document import render

sys.stdout.write(render(SCENARIOS))
