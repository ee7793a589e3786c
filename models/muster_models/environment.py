"""Settings that numerical libraries read once, at import: set before any of them is imported.

onnxruntime from 1.29 writes a device id and opens sockets at import unless it is told not to; OpenBLAS starts
a thread per core; glibc keeps an arena per thread.
"""

import os

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}

for _name, _value in VARIABLES.items():
    os.environ.setdefault(_name, _value)
