"""Which right each form of the dashboard takes, and for what: one table, for answers and for buttons.

Pages that change nothing take the right to read, which everybody has.
"""

from typing import Final

from starlette.routing import compile_path

from muster_controller.domain.people import Person, Right
from muster_controller.service.context import Context
from muster_controller.service.subjects import Asking, Subject, Takes, why_refused
from muster_models.errors import ForbiddenError, NotFoundError

# The first line that fits decides.
_TABLE: Final = """
    operate /devices/{device}/revoke  fleet
    operate /admission/requests/{code}/accept  fleet
    operate /admission/requests/{code}/refuse  fleet
    operate /admission/tokens/{token}/revoke  fleet
    stop /models/{model}/stop  model
    operate /models/{model}/start  model
    read /rollouts/preview  nothing
    operate /rollouts/new  body
    stop /rollouts/{number}/pause  rollout
    approve /rollouts/{number}/approve  rollout
    approve /rollouts/{number}/withhold  rollout
    operate /rollouts/{number}/edit  rollout
    operate /rollouts/{number}/abort  rollout
    operate /rollouts/{number}/{command}  rollout
    operate /models/{model}/drill  model
    operate /models/{model}/samples  model
    operate /samples/{number}/rows  sample
    operate /samples/{number}/delete  sample
    operate /alarms/{number}/acknowledge  alarm
    operate /silences  body
    operate /silences/{number}/end  silence
    operate /webhooks/{name}/test  fleet
    operate /jobs/{number}/retry  job
    operate /jobs/{number}/finish  job
    administer /people  fleet
    administer /people/{name}/token  fleet
    administer /people/{name}/roles  fleet
    administer /people/{name}/revoke  fleet
"""
FORMS: Final = tuple(
    (compile_path(path)[0], Takes(Right(right), Subject(subject)))
    for right, path, subject in map(str.split, _TABLE.strip().splitlines())
)


def ask(context: Context, person: Person, path: str) -> Asking:
    """Return somebody who asks for what the form of ``path`` orders, when they may, as far as the path tells.

    Raises:
        ForbiddenError: The person has no role that may, or not for this model; or the form is in no table.
        NotFoundError: The person is over some models, and what the path names is not there.
    """
    for pattern, takes in FORMS:
        if found := pattern.match(path):
            refused = why_refused(context, person, takes, found.groupdict())
            if refused:
                raise ForbiddenError(refused)
            return Asking(person, takes)
    raise ForbiddenError(f"no role was given the form {path}")


def refusal(context: Context, person: Person, path: str) -> str:
    """Return why a person may not send the form of ``path``, in words; empty when the person may."""
    try:
        ask(context, person, path)
    except (ForbiddenError, NotFoundError) as error:
        return str(error)
    return ""


class FormToken:
    """The token of a page's forms, which also knows what its reader may not do.

    Attributes:
        person: Who reads the page; None on the way in.
    """

    def __init__(self, token: str, person: Person | None, context: Context) -> None:
        self._token = token
        self._context = context
        self.person = person

    def __str__(self) -> str:
        """Return the token, as it stands in a form."""
        return self._token

    def refusal(self, path: str) -> str:
        """Return why the reader may not send a form; empty when the reader may."""
        if self.person is None:
            return "log in first"
        return refusal(self._context, self.person, path)
