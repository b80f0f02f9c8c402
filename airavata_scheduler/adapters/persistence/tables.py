"""The schema as SQLAlchemy Core tables. Alembic's revisions create it; queries are built on it.

A row of ``tasks`` exists only for tasks that were claimed, released one by one, skipped one by one or retried;
``steps.rest_state`` tells the state of all others (docs/architecture.md, "Ranges, not rows").
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData()
_now = sa.text("clock_timestamp()")


def _time(name: str, *, required: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not required, server_default=_now if required else None)


users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("full_name", sa.Text, nullable=False, server_default=""),
    sa.Column("email", sa.Text, nullable=False, server_default=""),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("token_generation", sa.Integer, nullable=False, server_default="0"),
    _time("created_at", required=True),
)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("family", sa.Text, nullable=False, index=True),
    sa.Column("user_name", sa.ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    _time("used_at"),
    _time("revoked_at"),
)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("owner", sa.ForeignKey("users.name"), nullable=False),
    sa.Column("weight", sa.Float, nullable=False, server_default="1"),
    _time("created_at", required=True),
)

project_members = sa.Table(
    "project_members",
    metadata,
    sa.Column("project", sa.ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_name", sa.ForeignKey("users.name", ondelete="CASCADE"), primary_key=True, index=True),
    sa.Column("role", sa.Text, nullable=False),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    _time("updated_at", required=True),
)

credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.ForeignKey("users.name"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    _time("created_at", required=True),
    _time("rotated_at"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _time("at", required=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", pg.JSONB, nullable=False, server_default="{}"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)

resources = sa.Table(
    "resources",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("price_per_hour", sa.Float, nullable=False, server_default="0"),
    sa.Column("gpu_price_per_hour", sa.Float, nullable=False, server_default="0"),
    sa.Column("speed", sa.Float, nullable=False, server_default="1"),
    sa.Column("labels", pg.JSONB, nullable=False, server_default="{}"),
    sa.Column("bandwidth_bytes_per_s", sa.Float, nullable=False, server_default="0"),  # 0: the storage lies there
    sa.Column("egress_price_per_gb", sa.Float, nullable=False, server_default="0"),
    sa.Column("queue_waits", pg.JSONB, nullable=False, server_default="{}"),
    _time("updated_at", required=True),
)

storages = sa.Table(
    "storages",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("root", sa.Text, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("resource_id", sa.ForeignKey("resources.id"), nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("node_id", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="live"),
    sa.Column("capacity", pg.JSONB, nullable=False),
    sa.Column("facts", pg.JSONB, nullable=False, server_default="{}"),
    _time("registered_at", required=True),
    _time("heartbeat_at", required=True),
    sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
)
sa.Index("workers_live", workers.c.name, unique=True, postgresql_where=workers.c.state.in_(("live", "draining")))

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("project", sa.ForeignKey("projects.name"), nullable=False, index=True),
    sa.Column("owner", sa.ForeignKey("users.name"), nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("tags", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("deadline", sa.DateTime(timezone=True)),
    sa.Column("hard_deadline", sa.Boolean, nullable=False, server_default="false"),
    sa.Column("budget", sa.Float),
    sa.Column("objective", pg.JSONB, nullable=False, server_default="{}"),
    sa.Column("document", pg.JSONB, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request_digest", sa.Text, nullable=False, server_default=""),
    sa.Column("derived_from", sa.Text),
    sa.Column("cost", sa.Float, nullable=False, server_default="0"),
    sa.Column("cpu_s", sa.Float, nullable=False, server_default="0"),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
    _time("created_at", required=True),
    _time("submitted_at"),
    _time("started_at"),
    _time("finished_at"),
    sa.UniqueConstraint("owner", "idempotency_key"),
)
sa.Index("experiments_open", experiments.c.seq, postgresql_where=experiments.c.finished_at.is_(None))

steps = sa.Table(
    "steps",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("experiment", sa.ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    sa.Column("position", sa.SmallInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("spec", pg.JSONB, nullable=False),
    sa.Column("needs", pg.ARRAY(sa.Integer), nullable=False, server_default="{}"),  # ids: all tasks of these first
    sa.Column("follows", pg.ARRAY(sa.Integer), nullable=False, server_default="{}"),  # ids: the same index of these
    sa.Column("fan_out", sa.Integer, nullable=False, server_default="1"),
    sa.Column("gate_open", sa.Boolean, nullable=False, server_default=sa.false()),  # whether `needs` are met
    sa.Column("rest_state", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("next_index", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("experiment", "position"),
)

step_counts = sa.Table(
    "step_counts",
    metadata,
    sa.Column("step_id", sa.ForeignKey("steps.id", ondelete="CASCADE"), primary_key=True),
    *(
        sa.Column(name, sa.Integer, nullable=False, server_default="0")
        for name in (
            "pending",
            "ready",
            "assigned",
            "staging",
            "running",
            "collecting",
            "succeeded",
            "failed",
            "skipped",
            "canceled",
        )
    ),
    sa.Column(
        "written",  # how many tasks have a row; the others are steps.n - written
        sa.Integer,
        sa.Computed(
            "pending + ready + assigned + staging + running + collecting + succeeded + failed + skipped + canceled",
            persisted=True,  # before PostgreSQL 18 there is no other kind
        ),
    ),
)

# No foreign keys on the three tables below: their check runs once a row, and rows are only ever made from `steps` rows.
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("step_id", sa.Integer, primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("attempt", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("user_failures", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("infrastructure_failures", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("worker_id", sa.Integer),
    sa.Column("not_before", sa.DateTime(timezone=True)),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("step_id", sa.Integer, primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.SmallInteger, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("worker_id", sa.Integer, nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.Column("wall_s", sa.Float, nullable=False, server_default="0"),
    sa.Column("cpu_s", sa.Float, nullable=False, server_default="0"),
    sa.Column("peak_memory_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("exit_code", sa.SmallInteger),
    sa.Column("signal", sa.SmallInteger),
    sa.Column("cause", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("cost", sa.Float, nullable=False, server_default="0"),
    sa.Column("stdout", pg.JSONB),  # Extent: [segment, offset, length, truncated]
    sa.Column("stderr", pg.JSONB),
    sa.Column("results", pg.JSONB),
)

outputs = sa.Table(
    "outputs",
    metadata,
    sa.Column("step_id", sa.Integer, primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("attempt", sa.SmallInteger, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _time("at", required=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("experiment", sa.Text),
    sa.Column("project", sa.Text),
    sa.Column("data", pg.JSONB, nullable=False, server_default="{}"),
)
sa.Index("events_experiment", events.c.experiment, events.c.seq)

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _time("at", required=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("plan", pg.JSONB, nullable=False),
)
