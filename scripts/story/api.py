"""A reader of the controller's REST API that waits for facts instead of sleeping for a guess."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from story.errors import StoryError

T = TypeVar("T")
POLL_SECONDS = 0.25
TIMEOUT_SECONDS = 60.0  # of one answer, on a machine that does much else


class Api:
    """The operator's API, with the token of the story's controller."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Return the JSON of a GET.

        Raises:
            StoryError: The controller answered with an error.
        """
        return self._json(self._http.get(path, params=query))

    def items(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """Return every item of a list, page by page.

        Raises:
            StoryError: The controller answered with an error.
        """
        found: list[dict[str, Any]] = []
        page = self.get(path, **query)
        while True:
            found += page["items"]
            if page["next"] is None:
                return found
            page = self.get(path, **query, cursor=page["next"])

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON of a POST.

        Raises:
            StoryError: The controller answered with an error.
        """
        return self._json(self._http.post(path, json=body or {}))

    def post_expecting_refusal(self, path: str, body: dict[str, Any]) -> dict[str, str]:
        """Return the error of a POST that must be refused.

        Raises:
            StoryError: The controller accepted it.
        """
        answer = self._http.post(path, json=body)
        if answer.is_success:
            raise StoryError(f"POST {path} was accepted and should have been refused: {answer.text[:200]}")
        error: dict[str, str] = answer.json()["error"]
        return error

    def wait(self, what: str, probe: Callable[[], T | None], *, seconds: float) -> T:
        """Return the first value of ``probe`` that is not None.

        Raises:
            StoryError: It did not come within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = probe()
            if value is not None:
                return value
            time.sleep(POLL_SECONDS)
        raise StoryError(f"waited {seconds:.0f} s in vain: {what}")

    def ready(self) -> bool:
        """Tell whether the controller answers."""
        try:
            return self._http.get("/status").is_success
        except httpx.TransportError:
            return False

    @staticmethod
    def _json(answer: httpx.Response) -> Any:
        if not answer.is_success:
            raise StoryError(
                f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
            )
        return answer.json()
