"""Tables of rollouts. What is done on one machine is an action, in `machines.tables`; here is who belongs to what."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Json, Moment, metadata, new_id
from hotmend.servicing.lanes import Lane
from hotmend.servicing.rollouts import GroupState, State

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("lane", sa.String(20), nullable=False),
    sa.Column("state", sa.String(30), nullable=False, index=True),
    sa.Column("spec", Json, nullable=False),
    sa.Column("plan", sa.String(64), nullable=False),
    sa.Column("failed_at", Moment),
    sa.Column("why", Json, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("steered_at", Moment),
    sa.Column("grace_until", Moment),
    sa.Column("start_at", Moment),
    sa.Column("seed", sa.String(64), nullable=False, server_default=""),
    sa.Index("ix_rollouts_seed", "seed", unique=True),
    sa.CheckConstraint(sa.column("state").in_([state.value for state in State]), name="state"),
    sa.CheckConstraint(sa.column("lane").in_([Lane.NORMAL.value, Lane.ZERO_DAY.value]), name="lane"),
)
"""`failed_at`: since when the brake is on; `plan`: digest of what is approved; `start_at`: it begins by itself then.
`grace_until`: no silence is judged and nothing begins before, as nobody steered for a while.
`seed`: what the choice of machines by percentage followed from, and their order.
"""

groups = sa.Table(
    "rollout_groups",
    metadata,
    sa.Column("rollout_id", Id, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("why", Json, nullable=False),
    sa.Column("began_at", Moment),
    sa.Column("quiet_since", Moment),
    sa.Column("judged", sa.Integer, nullable=False, server_default="0"),
    sa.Column("ended_at", Moment),
    sa.CheckConstraint(sa.column("state").in_([state.value for state in GroupState]), name="state"),
)
"""`quiet_since`: when all of it had ended, from which its soak counts; `judged`: failures that the gate has allowed."""

members = sa.Table(
    "rollout_members",
    metadata,
    sa.Column("rollout_id", Id, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("late", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("held", sa.String(40), nullable=False, server_default=""),
    sa.Column("held_since", Moment),
    sa.Column("action_id", Id, index=True),
    sa.Column("revert_id", Id),
    sa.Column("reverts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("look_id", Id),
    sa.Index("ix_rollout_members_waiting", "rollout_id", "number", "action_id", "place"),
)
"""`number`: of its group; `place`: in their order; `action_id`: what was begun; `held`: code of the cause why it has
not begun, `held_since`: when it was first held without a break, its turn aside; `look_id`: what it was asked for at the
end of the soak; `revert_id`: the last revert of it; `reverts`: how many there were.
"""

member_alerts = sa.Table(
    "rollout_member_alerts",
    metadata,
    sa.Column("rollout_id", Id, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("code", sa.String(100), primary_key=True),
)
"""Alerts that machines had before they were changed."""

gates = sa.Table(
    "rollout_gates",
    metadata,
    sa.Column("rollout_id", Id, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(10), primary_key=True),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("until", Moment, nullable=False),
    sa.Column("by", sa.String(200), nullable=False, server_default=""),
    sa.Column("reason", sa.String(500), nullable=False, server_default=""),
    sa.CheckConstraint(sa.column("kind").in_(["pre", "post"]), name="kind"),
    sa.CheckConstraint(sa.column("state").in_(["waiting", "allowed", "denied"]), name="state"),
)
"""Pre- and post-events of a group: somebody outside is asked, and no answer in time is a no."""

approvals = sa.Table(
    "rollout_approvals",
    metadata,
    sa.Column("rollout_id", Id, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("person", sa.String(100), primary_key=True),
    sa.Column("plan", sa.String(64), primary_key=True),
    sa.Column("at", Moment, nullable=False),
)

events = sa.Table(
    "rollout_events",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("rollout_id", Id, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("who", sa.String(200), nullable=False),
    sa.Column("what", sa.String(40), nullable=False),
    sa.Column("group_number", sa.Integer),
    sa.Column("why", Json, nullable=False),
    sa.Column("told_as", Id, nullable=False, server_default="", default=new_id),
    sa.Index("ix_rollout_events_rollout_id_id", "rollout_id", "id"),
)
"""What happened to a rollout, in order. `told_as`: its id for webhooks; after a restore `id` is one that was before."""
