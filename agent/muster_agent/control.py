"""What somebody at the device may ask of a running agent, over its Unix socket."""

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from muster_agent.status import Status
from muster_models.errors import MessageError

STATUS_PATH = "/muster/status"  # takes nothing; the answer is a Status
ROLL_BACK_PATH = "/muster/rollback"  # takes a RollBackRequest; the answer is a Status


class RollBackRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which model should go back to the version before."""

    model: str


def controls(
    status: Callable[[], Status], roll_back: Callable[[str], None]
) -> Mapping[str, Callable[[bytes], bytes]]:
    """Return what answers at each path: JSON in, JSON out."""

    def answer_status(_body: bytes) -> bytes:
        return msgspec.json.encode(status())

    def answer_roll_back(body: bytes) -> bytes:
        try:
            request = msgspec.json.decode(body, type=RollBackRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MessageError(f'expected {{"model": "<name>"}}: {error}') from error
        roll_back(request.model)
        return answer_status(b"")

    return {STATUS_PATH: answer_status, ROLL_BACK_PATH: answer_roll_back}
