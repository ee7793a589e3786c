"""Starlette's test client, without its advice to prefer a fork of httpx that nothing else here needs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from muster_controller.service.context import Context
from muster_controller.web.app import make_dashboard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

__all__ = ["TestClient", "signed_in"]


@contextmanager
def signed_in(context: Context, token: str) -> Iterator[TestClient]:
    """Show the dashboard to whoever has a token; no redirect is followed."""
    with TestClient(make_dashboard(context, token), follow_redirects=False) as client:
        assert client.post("/login", data={"token": token}).status_code == 303
        yield client
