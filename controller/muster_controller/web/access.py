"""Which right each form of the dashboard takes: one table, for the server's answer and for the buttons.

Pages that change nothing take the right to read, which everybody has.
"""

from typing import Final

from starlette.routing import compile_path

from muster_controller.domain.people import Person, Right, why_not

# The first line that fits decides.
_TABLE: Final = """
    operate /devices/{device}/revoke
    operate /admission/requests/{code}/accept
    operate /admission/requests/{code}/refuse
    operate /admission/tokens/{token}/revoke
    stop /models/{model}/stop
    operate /models/{model}/start
    read /rollouts/preview
    operate /rollouts/new
    stop /rollouts/{number}/pause
    approve /rollouts/{number}/approve
    approve /rollouts/{number}/withhold
    operate /rollouts/{number}/edit
    operate /rollouts/{number}/abort
    operate /rollouts/{number}/{command}
    operate /models/{model}/drill
    operate /models/{model}/samples
    operate /samples/{number}/rows
    operate /samples/{number}/delete
    operate /alarms/{number}/acknowledge
    operate /silences
    operate /silences/{number}/end
    operate /webhooks/{name}/test
    operate /jobs/{number}/retry
    operate /jobs/{number}/finish
    administer /people
    administer /people/{name}/token
    administer /people/{name}/roles
    administer /people/{name}/revoke
"""
FORMS: Final = tuple(
    (compile_path(path)[0], Right(right)) for right, path in map(str.split, _TABLE.strip().splitlines())
)


def refusal(person: Person, path: str) -> str:
    """Return why a person may not send the form of ``path``, in words; empty when the person may."""
    right = next((right for pattern, right in FORMS if pattern.match(path)), None)
    if right is None:
        return f"no role was given the form {path}"
    return why_not(person, right)


class FormToken:
    """The token of a page's forms, which also knows what its reader may not do.

    Attributes:
        person: Who reads the page; None on the way in.
    """

    def __init__(self, token: str, person: Person | None) -> None:
        self._token = token
        self.person = person

    def __str__(self) -> str:
        """Return the token, as it stands in a form."""
        return self._token

    def refusal(self, path: str) -> str:
        """Return why the reader may not send a form; empty when the reader may."""
        return "log in first" if self.person is None else refusal(self.person, path)
