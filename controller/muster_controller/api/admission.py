"""``/admission``: tokens for several devices, tokens that are out, machines that ask to be let in."""

from fastapi import APIRouter
from pydantic import Field

from muster_controller.api.documents import Body, ReasonBody
from muster_controller.api.parts import Actor, Here
from muster_controller.service import admission
from muster_controller.service.admission import BulkTokenView, RequestView, Waiting
from muster_controller.store.enrolment import TOKEN_SECONDS
from muster_controller.store.views.tokens import TokenSummary

router = APIRouter(prefix="/admission", tags=["admission"])


class BulkTokenBody(Body):
    """For how many devices a token is made, and how their ids begin."""

    prefix: str
    count: int
    labels: dict[str, str] = Field(default_factory=dict)
    lifetime_seconds: float = TOKEN_SECONDS


class AcceptBody(ReasonBody):
    """The labels of the device that is let in."""

    labels: dict[str, str] = Field(default_factory=dict)


@router.get("/tokens")
def list_tokens(context: Here) -> tuple[TokenSummary, ...]:
    """Return the tokens that may still be used, newest first."""
    return admission.list_tokens(context)


@router.post("/tokens", status_code=201)
def issue_bulk_token(context: Here, actor: Actor, body: BulkTokenBody) -> BulkTokenView:
    """Make a token for several devices; its text is shown this once."""
    return admission.issue_bulk_token(
        context,
        actor,
        prefix=body.prefix,
        count=body.count,
        labels=body.labels,
        lifetime=body.lifetime_seconds,
    )


@router.post("/tokens/{token}/revoke")
def revoke_token(context: Here, actor: Actor, token: str, body: ReasonBody) -> TokenSummary:
    """Let nobody in any more by a token."""
    return admission.revoke_token(context, actor, token, body.reason)


@router.get("/requests")
def list_waiting(context: Here) -> Waiting:
    """Return the machines that ask to be let in, oldest first."""
    return admission.list_waiting(context)


@router.post("/requests/{code}/accept")
def accept(context: Here, actor: Actor, code: str, body: AcceptBody) -> RequestView:
    """Let a machine in."""
    return admission.accept(context, actor, code, labels=body.labels, reason=body.reason)


@router.post("/requests/{code}/refuse")
def refuse(context: Here, actor: Actor, code: str, body: ReasonBody) -> RequestView:
    """Turn a machine away."""
    return admission.refuse(context, actor, code, reason=body.reason)
