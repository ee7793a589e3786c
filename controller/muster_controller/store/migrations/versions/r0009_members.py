"""What becomes of each device of a rollout."""

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WITNESSES = 64
_COLUMNS = (
    "rollout", "device", "arm", "given", "tries", "retry_at", "failure", "detail", "acknowledged",
    "withdrawn",
)  # fmt: skip
_MEMBER = sa.table("rollout_member", *(sa.column(name) for name in _COLUMNS))
_ROLLOUT = sa.table(
    "rollout",
    sa.column("id"),
    sa.column("digest"),
    sa.column("phase"),
    sa.column("plan", sa.JSON()),
    sa.column("state", sa.JSON()),
    sa.column("ticking"),
)
_OVER = ("completed", "rolled-back", "aborted")


def upgrade() -> None:
    """Add the fence and the table; devices that a rollout decides for are its members from now on."""
    op.add_column("rollout", sa.Column("fence", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("rollout", sa.Column("ticking", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_index("ix_rollout_ticking", "rollout", ["ticking"])
    op.create_table(
        "rollout_member",
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("arm", sa.Integer(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Integer(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("acknowledged", sa.Boolean(), nullable=False),
        sa.Column("withdrawn", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "device"),
    )
    op.create_index("ix_rollout_member_device", "rollout_member", ["device"])
    for row in op.get_bind().execute(sa.select(_ROLLOUT)).all():
        _draw(op.get_bind(), row)


def downgrade() -> None:
    """Remove them; what became of each device is lost."""
    op.drop_table("rollout_member")
    op.drop_index("ix_rollout_ticking", "rollout")
    op.drop_column("rollout", "ticking")
    op.drop_column("rollout", "fence")


def _draw(connection: sa.Connection, row: sa.Row[Any]) -> None:
    """Keep the draw of one rollout, for the devices that it has assigned a version."""
    state = dict(row.state)
    cuts = state.get("cuts", {"control": "", "stages": []})
    assigned = sa.text("SELECT device, digest, since FROM assignment WHERE rollout = :rollout")
    places = {
        device: (_place(row.plan["seed"], device), since if digest == row.digest else None)
        for device, digest, since in connection.execute(assigned, {"rollout": row.id})
        if cuts["stages"]
    }
    arms = {device: _arm(cuts, place) for device, (place, _) in places.items()}
    failures, accepted = state.pop("failures", {}), state.pop("acknowledged", [])
    if places:
        rows = [
            {
                "rollout": row.id,
                "device": device,
                "arm": arms[device],
                "given": given,
                "tries": 0,
                "retry_at": None,
                "failure": failures.get(device, {}).get("reason"),
                "detail": failures.get(device, {}).get("detail", ""),
                "acknowledged": device in accepted,
                "withdrawn": "",
            }
            for device, (_, given) in places.items()
        ]
        connection.execute(sa.insert(_MEMBER), rows)
    state["witnesses"] = [
        device
        for wanted in sorted(set(arms.values()))
        for device in sorted((d for d in arms if arms[d] == wanted), key=lambda name: places[name][0])[
            :_WITNESSES
        ]
    ]
    state["code"] = "draft" if row.phase == "draft" else "started"
    over = row.phase in _OVER
    connection.execute(
        sa.update(_ROLLOUT).where(_ROLLOUT.c.id == row.id).values(state=state, ticking=not over)
    )


def _place(seed: str, device: str) -> str:
    return hashlib.sha256(f"{seed}\n{device}".encode()).hexdigest()[:16]


def _arm(cuts: dict[str, Any], place: str) -> int:
    if place <= cuts["control"]:
        return -1
    return next(index for index, cut in enumerate(cuts["stages"]) if place <= cut)
