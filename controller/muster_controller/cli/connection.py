"""The controller as the command line sees it: one HTTP client whose errors are Muster's."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from cyclopts import Parameter

from muster_controller.cli.exits import UsageError
from muster_models.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Reason,
    RequestError,
    TransferError,
)
from muster_models.network_words import in_words

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 30.0
PAGE = 500
KINDS: Final[Mapping[int, type[RequestError]]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
}


@Parameter(name="*")
@dataclass(frozen=True)
class Connection:
    """Which controller is asked, and in what form its answers are shown."""

    url: Annotated[str, Parameter(env_var="MUSTER_URL", help="The controller's address.")] = (
        "http://127.0.0.1:8420"
    )
    token_file: Annotated[
        Path | None,
        Parameter(
            env_var="MUSTER_TOKEN_FILE", help="Your token, or operator.token of the controller's folder."
        ),
    ] = None
    output: Annotated[
        Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")
    ] = "table"

    def open(self) -> "Api":
        """Return a client of the controller.

        Raises:
            UsageError: No token file was named, or it cannot be read.
        """
        if self.token_file in {None, Path()}:  # an empty variable reads as the present folder
            raise UsageError("name the file of your token: --token-file FILE, or MUSTER_TOKEN_FILE=FILE")
        assert self.token_file is not None
        try:
            token = self.token_file.read_text().strip()
        except OSError as error:
            raise UsageError(f"{self.token_file}: {error.strerror}") from error
        return Api(self.url, token)


class Api:
    """``/api/v1`` of one controller."""

    def __init__(self, url: str, token: str) -> None:
        # Imported late: it takes longer than all the rest of the command line.
        import httpx  # noqa: PLC0415 - see above

        self._failure = httpx.TransportError
        self._unsent = (httpx.ConnectError, httpx.ConnectTimeout)
        self._url = url
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,  # the controller stands on loopback or behind its own name, not behind a proxy
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Return the JSON of a GET; a query of None is left out."""
        return self._ask("GET", path, query=query).json()

    def items(self, path: str, query: Mapping[str, object], *, limit: int | None = None) -> Iterator[Any]:
        """Yield the items of a list over all its pages, at most ``limit``."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            count = PAGE if left is None else min(PAGE, left)
            page = self.get(path, {**query, "limit": count, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]
            left = None if left is None else left - len(page["items"])
            if cursor is None:
                return

    def has(self, path: str) -> bool:
        """Tell whether something is there."""
        try:
            self._ask("HEAD", path)
        except NotFoundError:
            return False
        return True

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of a POST."""
        return self._ask("POST", path, json=body).json()

    def post_lines(self, path: str, body: bytes) -> Any:
        """Return the JSON of a POST of JSON objects, one a line."""
        return self._ask("POST", path, content=body, headers={"Content-Type": "application/x-ndjson"}).json()

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of a PUT."""
        return self._ask("PUT", path, json=body).json()

    def get_file(self, path: str) -> bytes:
        """Return a file as it is; the caller holds it against its hash."""
        return self._ask("GET", path).content

    def put_file(self, path: str, file: Path) -> None:
        """Send a file as it is."""
        with file.open("rb") as content:
            self._ask("PUT", path, content=content)

    def _ask(
        self, method: str, path: str, query: Mapping[str, object] | None = None, **content: Any
    ) -> "httpx.Response":
        params = {key: str(value) for key, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(method, path, params=params, **content)
        except ValueError as error:  # JSON knows no infinity and no NaN
            raise UsageError(f"numbers must be finite: {error}") from error
        except self._failure as error:
            told = f"{self._url}: no answer from the controller: {in_words(error)}"
            if method == "POST" and not isinstance(error, self._unsent):  # any other may be repeated
                told += "; it may have done what was asked: look before you ask again"
            raise TransferError(told) from error
        if answer.is_success:
            return answer
        raise _error(answer)


def _error(answer: "httpx.Response") -> RequestError:
    kind = KINDS.get(answer.status_code, RequestError)
    try:
        told = answer.json()["error"]
        message, reason = str(told["message"]), str(told["reason"])
    except (ValueError, KeyError, TypeError):
        message, reason = f"{answer.request.method} {answer.url}: status {answer.status_code}", ""
    known = {code.value: code for code in Reason}
    return kind(message, known.get(reason, Reason.BAD_MESSAGE))


def armour(document: bytes) -> str:
    """Return bytes as they stand in a JSON body."""
    return base64.b64encode(document).decode()


def unarmour(text: str) -> bytes:
    """Return the bytes of a JSON body's text."""
    return base64.b64decode(text)
