"""Documents in JSON bodies: Base64 of their exact bytes, because a signature covers bytes."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("expected Base64") from error
    return text


Document = Annotated[str, AfterValidator(_check), Field(description="Base64 of the document's exact bytes.")]


def unarmour(document: str) -> bytes:
    """Return the bytes of a document that was checked."""
    return base64.b64decode(document)


class Body(BaseModel):
    """A JSON body; fields that are not known are refused, because they would be silently without effect."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReasonBody(Body):
    """Why something is done, for the audit trail."""

    reason: str = Field(default="", max_length=400)
