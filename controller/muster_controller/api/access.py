"""Which right each route of the API takes: one table. A route that is not in it answers nobody."""

from typing import Final

from muster_controller.domain.people import Right
from muster_models.errors import ForbiddenError

_TABLE: Final = {
    Right.READ: """
        GET /status
        GET /overview
        GET /people/me
        GET /people
        GET /devices
        GET /devices/{device}
        GET /engines
        GET /cohort
        GET /admission/tokens
        GET /admission/requests
        GET /models
        GET /models/{model}
        GET /models/{model}/drift
        GET /models/{model}/drift/export
        GET /models/{model}/drift/threshold
        GET /models/{model}/cost
        GET /models/{model}/labels
        GET /versions
        GET /versions/{name}
        GET /versions/{name}/bootstrap
        GET /blobs/{sha256}
        HEAD /blobs/{sha256}
        GET /online-keys
        GET /repository
        GET /repository/roles/{role}
        GET /rollouts
        GET /rollouts/{number}
        GET /rollouts/{number}/devices
        GET /rollouts/{number}/evidence
        GET /rollouts/{number}/explain
        GET /rollouts/{number}/labels
        GET /rollouts/{number}/approvals
        GET /rollouts/{number}/explain
        POST /rollouts/plan
        GET /drills
        GET /drills/{number}
        GET /alarms
        GET /alarms/{number}
        GET /alarms/{number}/explain
        GET /silences
        GET /webhooks
        GET /deliveries
        GET /deliveries/{number}
        GET /jobs
        GET /jobs/triggers
        GET /jobs/{number}
        GET /reporting
        GET /drift/plan
        GET /samples
        GET /samples/{number}
        GET /events
        GET /refusals
        GET /runs
        GET /audit
        GET /{rest:path}
        HEAD /{rest:path}
        POST /{rest:path}
        PUT /{rest:path}
        PATCH /{rest:path}
        DELETE /{rest:path}
    """,  # the last six are what is not there: the answer says so
    Right.OPERATE: """
        POST /devices/tokens
        POST /devices/{device}/revoke
        PUT /devices/{device}/labels
        POST /admission/tokens
        POST /admission/tokens/{token}/revoke
        POST /admission/requests/{code}/accept
        POST /admission/requests/{code}/refuse
        POST /models/{model}/start
        POST /versions
        POST /versions/{digest}/withdraw
        PUT /blobs/{sha256}
        PUT /repository/roles
        PUT /repository/roles/{role}
        POST /labels
        POST /rollouts
        POST /rollouts/{number}/edit
        POST /rollouts/{number}/resume
        POST /rollouts/{number}/promote
        POST /rollouts/{number}/abort
        POST /rollouts/{number}/retry
        POST /rollouts/{number}/rollback
        POST /drills
        POST /alarms/{number}/acknowledge
        POST /silences
        POST /silences/{number}/end
        POST /webhooks/{name}/test
        POST /jobs/{number}/finish
        POST /jobs/{number}/retry
        PUT /reporting
        POST /reporting/reset
        POST /samples
        GET /samples/{number}/rows
        POST /samples/{number}/delete
    """,
    Right.APPROVE: """
        POST /rollouts/{number}/approve
        POST /rollouts/{number}/withhold
    """,
    Right.STOP: """
        POST /models/{model}/stop
        POST /rollouts/{number}/pause
    """,
    Right.ADMINISTER: """
        POST /people
        POST /people/{name}/token
        PUT /people/{name}/roles
        POST /people/{name}/revoke
        POST /online-keys
        PUT /repository
    """,
}
ROUTES: Final = {
    tuple(line.split()): right for right, lines in _TABLE.items() for line in lines.strip().splitlines()
}


def right_of(method: str, path: str) -> Right:
    """Return what a route takes; ``path`` is its template below ``/api/v1``.

    Raises:
        ForbiddenError: The route is not in the table.
    """
    right = ROUTES.get((method, path))
    if right is None:
        raise ForbiddenError(f"{method} {path}: no role was given this")
    return right
