"""Starlette's test client, without its advice to prefer a fork of httpx that nothing else here needs."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

__all__ = ["TestClient"]
