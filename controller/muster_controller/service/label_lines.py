"""What a push of labels says, line by line: bytes to lines that are well formed, or why one is refused."""

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Raw, Struct

from muster_models import prediction_id
from muster_models.errors import MessageError, MusterError, Reason, RequestError
from muster_models.prediction_id import PredictionId

MAX_LINES = 10_000
MAX_LABEL = 64
Label = str | int | float


@dataclass(frozen=True)
class Refusal:
    """A line that says nothing that can be used.

    Attributes:
        line: Counted from 1; in a list, its place.
        device: That the line names, as far as it could be read.
    """

    line: int
    reason: Reason
    message: str
    device: str = ""


@dataclass(frozen=True)
class IdLine:
    """The truth about one prediction; ``key`` is half the SHA-256 of its id."""

    line: int
    key: bytes
    named: PredictionId
    label: Label


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """Any line: an id and its label, or counts of one device, version and window.

    Attributes:
        start, end: Unix seconds, or RFC 3339.
        confusion: Of classes: predicted class, then true class, then how many.
        n, sum_error, sum_abs_error, sum_sq_error: Of values: how many, and sums of prediction less truth.
    """

    id: str | None = None
    label: Label | None = None
    device: str | None = None
    model: str | None = None
    version: str | None = None
    start: float | str | None = None
    end: float | str | None = None
    confusion: dict[str, dict[str, int]] | None = None
    n: int | None = None
    sum_error: float | None = None
    sum_abs_error: float | None = None
    sum_sq_error: float | None = None


@dataclass(frozen=True)
class CountsLine:
    """Counts that an application made; ``start`` and ``end`` are Unix seconds."""

    line: int
    device: str
    model: str
    version: str
    start: float
    end: float
    form: Form


Line = IdLine | CountsLine | Refusal
_form = msgspec.json.Decoder(Form)
_EXPECTED = (
    "expected {id, label}, or {device, model, version, start, end} with confusion or with n, sum_error, "
    "sum_abs_error and sum_sq_error"
)


def read_lines(body: bytes) -> list[Line]:
    """Return every line of a push: JSON, one a line or in a list.

    Raises:
        RequestError: There are too many, none, or the list is no list.
    """
    found = [_read(number, part) for number, part in _parts(body)]
    if not found:
        raise RequestError("expected labels, one JSON object a line or in a list, got none")
    return found


def models_named(body: bytes) -> Iterator[str]:
    """Yield the models that the lines of a push are about; a line that cannot be read is about none.

    Raises:
        RequestError: As from ``read_lines``.
    """
    for one in read_lines(body):
        match one:
            case IdLine(named=named):
                yield named.model
            case CountsLine(model=model):
                yield model
            case Refusal():
                pass


def _parts(body: bytes) -> Iterable[tuple[int, bytes]]:
    if body.lstrip()[:1] == b"[":
        try:
            parts = [bytes(one) for one in msgspec.json.decode(body, type=list[Raw])]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"expected a list of labels: {error}") from error
        numbered: Iterator[tuple[int, bytes]] = enumerate(parts, start=1)
    else:
        numbered = enumerate(body.splitlines(), start=1)
    held = [(number, part) for number, part in numbered if part.strip()]
    if len(held) > MAX_LINES:
        raise RequestError(f"a push has at most {MAX_LINES} lines, got {len(held)}", Reason.TOO_LARGE)
    return held


def _read(number: int, part: bytes) -> Line:
    try:
        form = _form.decode(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Refusal(number, Reason.BAD_MESSAGE, f"{_EXPECTED}: {error}"[:300])
    try:
        return _id_line(number, form) if form.id is not None else _counts_line(number, form)
    except MusterError as error:
        return Refusal(number, error.reason, str(error))


def _id_line(number: int, form: Form) -> IdLine:
    assert form.id is not None
    if form.label is None or msgspec.structs.replace(form, id=None, label=None) != Form():
        raise MessageError(f"expected id and label alone, got {_named(form)}")
    if isinstance(form.label, str) and len(form.label) > MAX_LABEL:
        raise MessageError(f"a label has at most {MAX_LABEL} characters, got {len(form.label)}")
    key = hashlib.sha256(form.id.encode()).digest()[:16]
    return IdLine(number, key, prediction_id.parse(form.id), form.label)


def _counts_line(number: int, form: Form) -> CountsLine:
    if form.device is None or form.model is None or form.version is None:
        raise MessageError(f"{_EXPECTED}, got {_named(form)}")
    start, end = _moment("start", form.start), _moment("end", form.end)
    return CountsLine(number, form.device, form.model, form.version, start, end, form)


def _named(form: Form) -> str:
    return ", ".join(name for name, value in msgspec.structs.asdict(form).items() if value is not None)


def _moment(name: str, value: float | str | None) -> float:
    match value:
        case float():
            return value
        case str():
            try:
                moment = dt.datetime.fromisoformat(value)
            except ValueError as error:
                raise MessageError(f"{name}: expected RFC 3339, got {value[:40]!r}") from error
            if moment.tzinfo is not None:
                return moment.timestamp()
        case None:
            pass
    raise MessageError(f"{name}: expected Unix seconds or RFC 3339 with its zone, got {value!r}"[:120])
