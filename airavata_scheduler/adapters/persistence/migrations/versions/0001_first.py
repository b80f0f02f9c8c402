"""The first schema: experiments as ranges of tasks, workers, identities, events.

Revision ID: 0001
Revises: none
"""

from __future__ import annotations

from alembic import op

from airavata_scheduler.adapters.persistence.tables import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATES = (
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

_INDEXES = """
CREATE INDEX tasks_ready ON tasks (step_id, index) WHERE state = 1;
CREATE INDEX tasks_active ON tasks (worker_id) WHERE state BETWEEN 2 AND 5;
CREATE INDEX tasks_canceled ON tasks (worker_id) WHERE state = 9 AND worker_id IS NOT NULL;
CREATE INDEX tasks_failed ON tasks (step_id, index) WHERE state = 7;
ALTER TABLE tasks SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE step_counts SET (fillfactor = 20, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE steps SET (fillfactor = 50);
ALTER TABLE leases SET (fillfactor = 20);
ALTER TABLE workers SET (fillfactor = 50);
"""


def _count_trigger(name: str, event: str, tables: dict[str, int]) -> str:
    """A statement-level trigger that adds the changed rows to the counts; one pass over the transition tables."""
    union = " UNION ALL ".join(f"SELECT step_id, state, {sign} AS d FROM {table}" for table, sign in tables.items())
    sums = ", ".join(f"coalesce(sum(d) FILTER (WHERE state = {i}), 0) AS {s}" for i, s in enumerate(_STATES))
    sets = ", ".join(f"{s} = c.{s} + m.{s}" for s in _STATES)
    references = " ".join(f"{'NEW' if t == 'fresh' else 'OLD'} TABLE AS {t}" for t in tables)
    return f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE step_counts c SET {sets}
  FROM (SELECT step_id, {sums} FROM ({union}) moved GROUP BY step_id) m
  WHERE c.step_id = m.step_id;
  RETURN NULL;
END $$;
CREATE TRIGGER {name} AFTER {event} ON tasks REFERENCING {references}
  FOR EACH STATEMENT EXECUTE FUNCTION {name}();
"""


def upgrade() -> None:
    """Create everything."""
    metadata.create_all(op.get_bind())
    op.execute(_INDEXES)
    op.execute(_count_trigger("tasks_inserted", "INSERT", {"fresh": 1}))
    op.execute(_count_trigger("tasks_updated", "UPDATE", {"fresh": 1, "gone": -1}))
    op.execute(_count_trigger("tasks_deleted", "DELETE", {"gone": -1}))


def downgrade() -> None:
    """Drop everything."""
    metadata.drop_all(op.get_bind())
    op.execute("DROP FUNCTION tasks_inserted, tasks_updated, tasks_deleted")
