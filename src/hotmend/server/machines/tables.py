"""Tables of machines. What changes at each check-in is a narrow table; what a machine says of itself, another."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Json, Moment, metadata
from hotmend.servicing.actions import FINAL, State
from hotmend.wire.report import Fixed

STATES = ("pending", "active", "suspect", "left")
"""pending: waits for approval; suspect: more than one host has its key; left: offboarded."""
PLACES = tuple(each.name.lower() for each in Fixed)
"""Where the fix of a finding is, as columns are called."""
_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
_BAD = ", ".join(f"'{state.value}'" for state in sorted(State) if state.bad)

machines = sa.Table(
    "machines",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(253), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("why", sa.String(500), nullable=False, server_default=""),
    sa.Column("platform", sa.String(20), nullable=False),
    sa.Column("tier", sa.String(20), nullable=False),
    sa.Column("public_key", sa.String(64), unique=True),
    sa.Column("host_machine", sa.String(64), nullable=False, index=True),
    sa.Column("host_hardware", sa.String(64), nullable=False, server_default=""),
    sa.Column("registration_key_id", Id, sa.ForeignKey("registration_keys.id")),
    sa.Column("registered_at", Moment, nullable=False),
    sa.Column("approved_at", Moment),
    sa.Column("left_at", Moment),
    sa.Column("policy", sa.String(100), nullable=False, server_default="default"),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("labels", sa.Text, nullable=False, server_default="{}"),
    sa.Column("clock", sa.String(100), nullable=False, server_default=""),
    sa.CheckConstraint(sa.column("state").in_(STATES), name="state"),
)
"""`labels`: its tags as JSON, names in order; `clock`: the zone of its report. Kept here with what they are made of, so
that machines which are alike are found by this table alone."""

contacts = sa.Table(
    "contacts",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("signed_at", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("seen_at", Moment),
    sa.Column("boot", sa.String(64), nullable=False, server_default=""),
    sa.Column("agent", sa.String(100), nullable=False, server_default=""),
    sa.Column("wire", sa.Integer, nullable=False, server_default="1"),
    sa.Column("report_hash", sa.String(64), nullable=False, server_default=""),
    sa.Column("policy", sa.String(64), nullable=False, server_default=""),
    sa.Column("looked_at", Moment),
    sa.Column("look_by", Moment),
    # Only columns without an index change at each check-in: PostgreSQL then writes the row in place.
    postgresql_with={"fillfactor": 70},
)
"""`looked_at`: the last look whose report is here, by the server's clock; `look_by`: when another one is overdue. None:
there was none yet, or the agent's version does not say.
"""

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("release", sa.String(200), nullable=False, index=True),
    sa.Column("level", sa.String(200), nullable=False),
    sa.Column("line", sa.String(20), nullable=False, index=True),
    sa.Column("enrollment", sa.String(40), nullable=False, index=True),
    sa.Column("mode", sa.String(20), nullable=False),
    sa.Column("zone", sa.String(100), nullable=False, server_default=""),
    sa.Column("waiting", sa.Integer, nullable=False),
    sa.Column("restarts_due", sa.Integer, nullable=False),
    sa.Column("reboot_due", sa.Boolean, nullable=False),
    sa.Column("restarts_avoided", sa.BigInteger, nullable=False),
    sa.Column("reboots_avoided", sa.BigInteger, nullable=False),
    sa.Column("alerts", sa.Integer, nullable=False),
    *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in PLACES),
    sa.Column("cves", sa.Integer, nullable=False, server_default="0"),
)
"""How many of its findings have their fix where, and how many vulnerabilities are open, is kept with each report."""

alerts = sa.Table(
    "machine_alerts",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("code", sa.String(100), primary_key=True),
)
"""What is a sign that a machine is ill, by its last report. The codes, since one may go and another come."""

findings = sa.Table(
    "findings",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cve", sa.String(500), nullable=False, index=True),
    sa.Column("fixed", sa.String(20), nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("comm", sa.String(500), nullable=False),
    sa.Column("unit", sa.String(500), nullable=False),
    sa.Column("image", sa.String(500), nullable=False),
    sa.Column("brings", sa.String(500), nullable=False),
    sa.Column("since", Moment, nullable=False),
)

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("judged", sa.Date),
)
"""`judged`: the last day on which it was judged how known issues concern the machine."""

tags = sa.Table(
    "machine_tags",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
    sa.Index("ix_machine_tags_name_value", "name", "value"),
)

scopes = sa.Table(
    "scopes",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("query", Json, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
)

events = sa.Table(
    "machine_events",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("detail", sa.String(2000), nullable=False),
    sa.Index("ix_machine_events_machine_id_id", "machine_id", "id"),
)

IS_OPEN = sa.text(f"state NOT IN ({_FINAL})")
"""Of an action that has not ended. As text: PostgreSQL takes the index of open actions for these very words."""
IS_BAD = sa.text(f"state IN ({_BAD})")
"""Of an action that ended badly; its index is taken for these very words."""

actions = sa.Table(
    "actions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("updates", Json, nullable=False),
    sa.Column("anytime", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("emergency", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("disk", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("reboot", sa.String(20), nullable=False, server_default=""),
    sa.Column("reason", sa.String(500), nullable=False, server_default=""),
    sa.Column("state", sa.String(30), nullable=False, server_default=State.SCHEDULED.value),
    sa.Column("detail", sa.String(2000), nullable=False, server_default=""),
    sa.Column("undoes", Id),
    sa.Column("rollout_id", Id, index=True),
    sa.Column("group_id", Id),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("until", Moment),
    sa.Column("handed_at", Moment),
    sa.Column("changed_at", Moment, nullable=False),
    sa.CheckConstraint(sa.column("state").in_([state.value for state in State]), name="state"),
    sa.Index(
        "ix_actions_open",
        "machine_id",
        "due_at",
        sqlite_where=IS_OPEN,
        postgresql_where=IS_OPEN,
    ),
    sa.Index("ix_actions_bad", "changed_at", sqlite_where=IS_BAD, postgresql_where=IS_BAD),
)
"""`undoes`: the action that a revert is about; `due_at`: not handed out before; `handed_at`: first time that the
machine was told; `until`: not begun after."""

action_events = sa.Table(
    "action_events",
    metadata,
    sa.Column("action_id", Id, sa.ForeignKey("actions.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("state", sa.String(30), nullable=False),
    sa.Column("detail", sa.String(2000), nullable=False),
)

brake = sa.Table(
    "brake",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("halted", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)
"""The row that says `halted`. Every check-in reads it."""

policies = sa.Table(
    "policies",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("content", Json, nullable=False),
    sa.Column("serial", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("issued_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
"""What machines may do, by name; `machines.policy` says which is whose."""
