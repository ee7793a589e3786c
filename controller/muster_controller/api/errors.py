"""The one table from errors to HTTP answers, and the one form in which an error is told."""

import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from muster_models.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    ModelFileError,
    MusterError,
    NotFoundError,
    RequestError,
    StorageError,
    TrustError,
)

# The first row whose class fits, so leaves stand before their parents.
TABLE: Final[tuple[tuple[type[MusterError], int, str], ...]] = (
    (NotFoundError, 404, "not-found"),
    (ConflictError, 409, "conflict"),
    (ForbiddenError, 403, "forbidden"),
    (RequestError, 400, "bad-request"),
    (TrustError, 422, "untrusted"),
    (ModelFileError, 422, "bad-model"),
    (InvalidInputError, 422, "invalid"),
    (StorageError, 507, "storage"),
    (MusterError, 500, "failed"),
)
HTTP_CODES: Final = {
    401: "unauthorised",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    503: "unavailable",
}
_log = logging.getLogger(__name__)


def status_of(error: MusterError) -> tuple[int, str]:
    """Return the HTTP status of an error and its code."""
    return next((status, code) for kind, status, code in TABLE if isinstance(error, kind))


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error in the one form."""
    app.add_exception_handler(MusterError, _muster)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def answer(status: int, code: str, message: str, reason: str = "") -> JSONResponse:
    """Return an error answer; ``reason`` is a reason code or empty."""
    return JSONResponse({"error": {"code": code, "message": message, "reason": reason}}, status)


def _muster(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MusterError)
    status, code = status_of(error)
    return answer(status, code, str(error), error.reason.value)


def _validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return answer(422, "invalid", f"{where}: {first['msg']}")


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = answer(error.status_code, HTTP_CODES.get(error.status_code, "failed"), str(error.detail))
    told.headers.update(error.headers or {})
    return told


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The text stays here: it may hold what the caller should not see.
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(500, "failed", "the controller failed; its log says why")
