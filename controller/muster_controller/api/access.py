"""Which right each route of the API takes, and for what: one table. A route that is not in it answers nobody.

What changes something names its subject, see ``service.subjects``; reading is over everything.
"""

from typing import Final

from muster_controller.domain.people import Right
from muster_controller.service.subjects import Subject, Takes
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
        POST /devices/tokens  fleet
        POST /devices/{device}/revoke  fleet
        PUT /devices/{device}/labels  fleet
        POST /admission/tokens  fleet
        POST /admission/tokens/{token}/revoke  fleet
        POST /admission/requests/{code}/accept  fleet
        POST /admission/requests/{code}/refuse  fleet
        POST /models/{model}/start  model
        POST /versions  body
        POST /versions/{digest}/withdraw  version
        PUT /blobs/{sha256}  nothing
        PUT /repository/roles  body
        PUT /repository/roles/{role}  role
        POST /labels  body
        POST /rollouts  body
        POST /rollouts/{number}/edit  rollout
        POST /rollouts/{number}/resume  rollout
        POST /rollouts/{number}/promote  rollout
        POST /rollouts/{number}/abort  rollout
        POST /rollouts/{number}/retry  rollout
        POST /rollouts/{number}/rollback  rollout
        POST /drills  body
        POST /alarms/{number}/acknowledge  alarm
        POST /silences  body
        POST /silences/{number}/end  silence
        POST /webhooks/{name}/test  fleet
        POST /jobs/{number}/finish  job
        POST /jobs/{number}/retry  job
        PUT /reporting  fleet
        POST /reporting/reset  fleet
        POST /samples  body
        GET /samples/{number}/rows  sample
        POST /samples/{number}/delete  sample
    """,
    Right.APPROVE: """
        POST /rollouts/{number}/approve  rollout
        POST /rollouts/{number}/withhold  rollout
    """,
    Right.STOP: """
        POST /models/{model}/stop  model
        POST /rollouts/{number}/pause  rollout
    """,
    Right.ADMINISTER: """
        POST /people  fleet
        POST /people/{name}/token  fleet
        PUT /people/{name}/roles  fleet
        POST /people/{name}/revoke  fleet
        POST /online-keys  fleet
        PUT /repository  fleet
    """,
}


def _takes(right: Right, subject: list[str]) -> Takes:
    return Takes(right, Subject.NOTHING if right is Right.READ else Subject(*subject))


ROUTES: Final = {
    (method, path): _takes(right, subject)
    for right, lines in _TABLE.items()
    for method, path, *subject in map(str.split, lines.strip().splitlines())
}


def takes_of(method: str, path: str) -> Takes:
    """Return what a route takes; ``path`` is its template below ``/api/v1``.

    Raises:
        ForbiddenError: The route is not in the table.
    """
    takes = ROUTES.get((method, path))
    if takes is None:
        raise ForbiddenError(f"{method} {path}: no role was given this")
    return takes
