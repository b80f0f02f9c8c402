"""`ExperimentStore` on PostgreSQL: experiments as a whole, none of whose commands depends on the number of tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import single_statements, transaction
from airavata_scheduler.adapters.persistence.events import append
from airavata_scheduler.adapters.persistence.follow import follow, open_gates
from airavata_scheduler.adapters.persistence.leases import check_fence
from airavata_scheduler.platform.domain.errors import ConflictError, NotFoundError
from airavata_scheduler.platform.domain.events import Event
from airavata_scheduler.platform.domain.states import FINISHED, ExperimentState, TaskState
from airavata_scheduler.platform.ports.repository import Fence, NewExperiment

_KNOWN = sa.text("""
SELECT id, request_digest FROM experiments WHERE id = :id OR (owner = :owner AND idempotency_key = :key)
""")
_INSERT = sa.text("""
INSERT INTO experiments (id, name, description, project, owner, status, tags, priority, deadline, hard_deadline, budget,
                         objective, document, idempotency_key, request_digest, derived_from, submitted_at)
VALUES (:id, :name, :description, :project, :owner, :status, :tags, :priority, :deadline, :hard_deadline, :budget,
        :objective, :document, :key, :digest, :derived_from, CASE WHEN :status = 'RUNNING' THEN clock_timestamp() END)
ON CONFLICT (owner, idempotency_key) DO NOTHING RETURNING id
""")
_STEP_IDS = sa.text("SELECT nextval(pg_get_serial_sequence('steps', 'id')) FROM generate_series(1, :n)")
_INSERT_STEPS = sa.text("""
INSERT INTO steps (id, experiment, position, name, n, spec, needs, follows, fan_out, gate_open, rest_state)
OVERRIDING SYSTEM VALUE
SELECT id, :experiment, position, name, n, spec, needs, follows, fan_out, needs = '{}',
       CASE WHEN needs = '{}' AND follows = '{}' THEN 1 ELSE 0 END
FROM jsonb_to_recordset(:steps) AS s(id int, position int, name text, n int, spec jsonb, needs int[], follows int[],
                                     fan_out int)
""")
_INSERT_COUNTS = sa.text("INSERT INTO step_counts (step_id) SELECT unnest(CAST(:ids AS int[]))")
_LOCK = sa.text("SELECT id, project, status, finished_at FROM experiments WHERE id = :id FOR NO KEY UPDATE")
_SET_STATUS = sa.text("""
UPDATE experiments SET status = :status, reason = :reason, version = version + 1,
  submitted_at = coalesce(submitted_at, CASE WHEN :status <> 'DRAFT' THEN clock_timestamp() END),
  finished_at = CASE WHEN :finished THEN coalesce(finished_at, clock_timestamp()) END
WHERE id = :id
""")
_SET_LIMITS = sa.text("""
UPDATE experiments SET budget = coalesce(CAST(:budget AS double precision), budget),
  deadline = coalesce(CAST(:deadline AS timestamptz), deadline), version = version + 1
WHERE id = :id
""")
_WARNED = sa.text("SELECT EXISTS (SELECT FROM events WHERE experiment = :id AND kind = :kind)")
_STEPS_OF = "(SELECT id FROM steps WHERE experiment = :id)"
_CANCEL_REST = sa.text("UPDATE steps SET rest_state = 9 WHERE experiment = :id AND rest_state IN (0, 1)")
_CANCEL_READY = sa.text(f"UPDATE tasks SET state = 9 WHERE state = 1 AND step_id IN {_STEPS_OF}")
_CANCEL_ACTIVE = sa.text(f"""
UPDATE tasks SET state = 9 WHERE state BETWEEN 2 AND 5 AND step_id IN {_STEPS_OF} RETURNING worker_id
""")
_HOLDING = sa.text(f"""
SELECT count(*) FROM tasks WHERE state = 9 AND worker_id IS NOT NULL AND step_id IN {_STEPS_OF}
""")
_RETRY_ROWS = sa.text(f"""
UPDATE tasks SET state = 1, user_failures = 0, infrastructure_failures = 0, not_before = NULL, worker_id = NULL
WHERE state IN (7, 9) AND step_id IN {_STEPS_OF}
""")
_RETRY_SKIPPED = sa.text(f"DELETE FROM tasks WHERE state = 8 AND step_id IN {_STEPS_OF}")
_RETRY_REST = sa.text("""
WITH moved AS (
  UPDATE steps s SET rest_state = CASE WHEN s.gate_open AND s.follows = '{}' THEN 1 ELSE 0 END
  WHERE s.experiment = :id AND s.rest_state IN (8, 9) RETURNING s.id, s.n)
SELECT coalesce(sum(m.n - c.written), 0)
FROM moved m JOIN step_counts c ON c.step_id = m.id
""")
_DELETE_ROWS = [
    sa.text(f"DELETE FROM {table} WHERE step_id IN {_STEPS_OF}") for table in ("tasks", "attempts", "outputs")
]
_DELETE = sa.text("DELETE FROM experiments WHERE id = :id")
_DELETED = sa.text("SELECT data ->> 'id' FROM events WHERE kind = 'experiment.deleted' ORDER BY seq")
_DELETE_EVENTS = sa.text("DELETE FROM events WHERE experiment = :id")
# Gaps and islands: neighbours in a run have the same difference between index and rank.
_INDEXES = sa.text("""
SELECT position, min(i), max(i) FROM (
  SELECT s.position, i, i - row_number() OVER (PARTITION BY s.position ORDER BY i) AS island
  FROM steps s CROSS JOIN LATERAL generate_series(0, s.n - 1) i
  LEFT JOIN tasks t ON t.step_id = s.id AND t.index = i
  WHERE s.experiment = :id AND coalesce(t.state, s.rest_state) = ANY(:states)) found
GROUP BY position, island ORDER BY position, min(i)
""")
_GATHERING = sa.text("""
SELECT DISTINCT e.id FROM experiments e JOIN steps s ON s.experiment = e.id
WHERE e.finished_at IS NULL AND NOT s.gate_open AND s.rest_state = 0 AND jsonb_array_length(s.spec->'gather') > 0
""")
_EXPERIMENT_OF = sa.text("SELECT experiment FROM steps WHERE id = :step")
_MANIFEST_PAGE = sa.text("""
SELECT index, key FROM outputs WHERE step_id = :step AND name = :name AND index > :after ORDER BY index LIMIT 10000
""")
_WITH_REST = ", ".join(
    f"sum(c.{state.name.lower()} + CASE WHEN s.rest_state = {state.value} THEN s.n - c.written ELSE 0 END)"
    f" AS {state.name.lower()}"
    for state in TaskState
)
_PROGRESS = sa.text(f"""
SELECT e.id, e.project, e.status, sum(s.n) AS total, {_WITH_REST}
FROM experiments e JOIN steps s ON s.experiment = e.id JOIN step_counts c ON c.step_id = s.id
WHERE e.finished_at IS NULL AND e.submitted_at IS NOT NULL GROUP BY e.id
""")
_AUDIT = sa.text("INSERT INTO audit (actor, action, subject, detail) VALUES (:actor, :action, :subject, :detail)")


class PostgresExperimentStore:
    """`ExperimentStore` over an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def insert(self, new: NewExperiment) -> tuple[str, bool]:
        """Experiment, steps and counts in four statements, whatever the number of tasks."""
        which = {"id": new.id, "owner": new.owner, "key": new.idempotency_key}

        async def work(connection: AsyncConnection) -> tuple[str, bool]:
            if (row := (await connection.execute(_KNOWN, which)).first()) is not None:
                # Our own, if the answer to the commit of an earlier try was lost.
                return (new.id, True) if row.id == new.id else (new.replay_of(*row), False)
            if (await connection.execute(_INSERT, _experiment_values(new))).first() is None:
                return new.replay_of(*(await connection.execute(_KNOWN, which)).one()), False
            ids = list((await connection.execute(_STEP_IDS, {"n": len(new.compiled.steps)})).scalars())
            steps = Jsonb(_step_values(new, ids))
            await connection.execute(_INSERT_STEPS, {"experiment": new.id, "steps": steps})
            await connection.execute(_INSERT_COUNTS, {"ids": ids})
            data = {"name": new.compiled.name, "tasks": new.compiled.n_tasks}
            kind = "experiment.submitted" if new.start else "experiment.created"
            await append(connection, [Event(kind, new.id, new.project, data)])
            return new.id, True

        return await transaction(self._engine, work)

    async def start(self, experiment: str) -> ExperimentState:
        """DRAFT -> RUNNING; starting what runs is no error."""
        return await self._move(experiment, ExperimentState.RUNNING, {ExperimentState.DRAFT}, "experiment.submitted")

    async def pause(
        self, experiment: str, reason: str, *, kind: str = "experiment.paused", data: Mapping[str, Any] | None = None
    ) -> ExperimentState:
        """RUNNING -> PAUSED."""
        details = {"reason": reason, **(data or {})}
        return await self._move(experiment, ExperimentState.PAUSED, {ExperimentState.RUNNING}, kind, reason, details)

    async def resume(
        self, experiment: str, budget: float | None = None, deadline: float | None = None
    ) -> ExperimentState:
        """PAUSED -> RUNNING."""
        limits = {"budget": budget, "deadline": None if deadline is None else datetime.fromtimestamp(deadline, UTC)}
        return await self._move(
            experiment, ExperimentState.RUNNING, {ExperimentState.PAUSED}, "experiment.resumed", limits=limits
        )

    async def warn(self, experiment: str, kind: str, reason: str, data: Mapping[str, Any]) -> bool:
        """That the event was written before is found in the events themselves: they outlive every process."""

        async def work(connection: AsyncConnection) -> bool:
            now, project = await _lock(connection, experiment)
            known = await connection.execute(_WARNED, {"id": experiment, "kind": kind})
            if now is not ExperimentState.RUNNING or known.scalar_one():
                return False
            await _set_status(connection, experiment, now, reason)
            await append(connection, [Event(kind, experiment, project, {"reason": reason, **data})])
            return True

        return await transaction(self._engine, work)

    async def _move(
        self,
        experiment: str,
        to: ExperimentState,
        allowed: set[ExperimentState],
        kind: str,
        reason: str = "",
        data: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> ExperimentState:
        async def work(connection: AsyncConnection) -> ExperimentState:
            now, project = await _lock(connection, experiment)
            if now is to:
                if limits:  # whoever was a moment faster may have wanted others
                    await connection.execute(_SET_LIMITS, {"id": experiment, **limits})
                return to
            if now not in allowed:
                wanted = " or ".join(sorted(allowed))
                message = f"experiment {experiment} is {now}; {kind.removeprefix('experiment.')} needs {wanted}"
                raise ConflictError(message, remedy=f"see `airavata experiment status {experiment}`")
            await _set_status(connection, experiment, to, reason)
            if limits:
                await connection.execute(_SET_LIMITS, {"id": experiment, **limits})
            await append(connection, [Event(kind, experiment, project, data or {})])
            return to

        return await transaction(self._engine, work)

    async def cancel(self, experiment: str, reason: str) -> tuple[ExperimentState, list[int]]:
        """What has no row is canceled by the step's `rest_state`; only rows in flight are touched one by one."""

        async def work(connection: AsyncConnection) -> tuple[ExperimentState, list[int]]:
            now, project = await _lock(connection, experiment)
            if now.finished:
                return now, []
            await _set_status(connection, experiment, ExperimentState.CANCELED, reason)
            await connection.execute(_CANCEL_REST, {"id": experiment})
            # In this order: what a worker gives back meanwhile goes from active to ready, and never the other way.
            workers = set((await connection.execute(_CANCEL_ACTIVE, {"id": experiment})).scalars())
            await connection.execute(_CANCEL_READY, {"id": experiment})
            await append(connection, [Event("experiment.canceled", experiment, project, {"reason": reason})])
            return ExperimentState.CANCELED, sorted(workers)

        return await transaction(self._engine, work)

    async def holding(self, experiment: str) -> int:
        """A worker that ended a canceled task lets go of its row."""

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(_HOLDING, {"id": experiment})).scalar_one())

        return await transaction(single_statements(self._engine), work)

    async def retry(self, experiment: str) -> int:
        """Back to READY, or PENDING where something else must be tried again first; how many."""
        done = 0  # by an earlier try, the answer to whose commit was lost

        async def work(connection: AsyncConnection) -> int:
            nonlocal done
            now, project = await _lock(connection, experiment)
            if now is ExperimentState.DRAFT:
                message = f"experiment {experiment} was never started"
                raise ConflictError(message, remedy=f"start it: `airavata experiment start {experiment}`")
            if (await connection.execute(_HOLDING, {"id": experiment})).scalar_one():
                message = f"canceled tasks of experiment {experiment} are still being ended"
                raise ConflictError(message, remedy="try again in a few seconds")
            again = (await connection.execute(_RETRY_ROWS, {"id": experiment})).rowcount
            again += (await connection.execute(_RETRY_SKIPPED, {"id": experiment})).rowcount
            again += int((await connection.execute(_RETRY_REST, {"id": experiment})).scalar_one())
            if not again:
                return done
            await _set_status(connection, experiment, ExperimentState.RUNNING, "")
            await follow(connection, [experiment])
            await append(connection, [Event("experiment.retried", experiment, project, {"tasks": again})])
            done = again
            return again

        return await transaction(self._engine, work)

    async def delete(self, experiment: str) -> None:
        """Everything about it, events included."""
        done = False  # as for `retry`

        async def work(connection: AsyncConnection) -> None:
            nonlocal done
            try:
                now, project = await _lock(connection, experiment)
            except NotFoundError:
                if done:
                    return
                raise
            held = (await connection.execute(_HOLDING, {"id": experiment})).scalar_one()
            if held or (not now.finished and now is not ExperimentState.DRAFT):
                message = f"experiment {experiment} is {now}" + (", its processes are being ended" if held else "")
                raise ConflictError(message, remedy=f"cancel it first: `airavata experiment cancel {experiment}`")
            for statement in (*_DELETE_ROWS, _DELETE, _DELETE_EVENTS):
                await connection.execute(statement, {"id": experiment})
            await append(connection, [Event("experiment.deleted", None, project, {"id": experiment})])
            done = True

        await transaction(self._engine, work)

    async def deleted(self) -> list[str]:
        """As their events say, which are kept."""

        async def work(connection: AsyncConnection) -> list[str]:
            return list((await connection.execute(_DELETED)).scalars())

        return await transaction(self._engine, work)

    async def indexes(self, experiment: str, states: Sequence[TaskState]) -> dict[int, list[tuple[int, int]]]:
        """As ranges, so that a million tasks are a few numbers."""

        async def work(connection: AsyncConnection) -> dict[int, list[tuple[int, int]]]:
            ranges: dict[int, list[tuple[int, int]]] = {}
            values = {"id": experiment, "states": [int(state) for state in states]}
            for position, first, last in await connection.execute(_INDEXES, values):
                ranges.setdefault(position, []).append((first, last))
            return ranges

        return await transaction(self._engine, work)

    async def due_manifests(self) -> list[int]:
        """Found anew each time, so none is forgotten when whoever should write it dies."""

        async def work(connection: AsyncConnection) -> list[int]:
            experiments = list((await connection.execute(_GATHERING)).scalars())
            return (await follow(connection, experiments)).manifests_due if experiments else []

        return await transaction(self._engine, work)

    async def open_gate(self, fence: Fence, step_id: int) -> int:
        """Its needs stay met once they are: tasks that succeeded never change again, unless it is deleted."""

        async def work(connection: AsyncConnection) -> int:
            await check_fence(connection, fence)
            experiment = (await connection.execute(_EXPERIMENT_OF, {"step": step_id})).scalar()
            if experiment is None:
                return 0
            await _lock(connection, experiment)
            return await open_gates(connection, [step_id])

        return await transaction(self._engine, work)

    async def manifest_keys(self, step_id: int, output: str) -> AsyncIterator[Sequence[str]]:
        """By keyset, ten thousand at a time."""
        after = -1
        while True:
            values = {"step": step_id, "name": output, "after": after}

            async def work(connection: AsyncConnection, values: Mapping[str, Any] = values) -> list[Any]:
                return list(await connection.execute(_MANIFEST_PAGE, values))

            rows = await transaction(self._engine, work)
            if not rows:
                return
            yield [row[1] for row in rows]
            after = rows[-1][0]

    async def announce_progress(self, fence: Fence, seen: Mapping[str, int]) -> dict[str, int]:
        """The number that stands for an experiment's progress is a hash of its counts."""

        async def work(connection: AsyncConnection) -> dict[str, int]:
            await check_fence(connection, fence)
            now: dict[str, int] = {}
            events = []
            for row in (await connection.execute(_PROGRESS)).mappings():
                counts = {state.name.lower(): int(row[state.name.lower()]) for state in TaskState}
                now[row["id"]] = hash((row["status"], *counts.values()))
                if seen.get(row["id"]) != now[row["id"]]:
                    data = {"status": row["status"], "tasks": {"total": int(row["total"]), **counts}}
                    events.append(Event("experiment.progress", row["id"], row["project"], data))
            await append(connection, events)
            return now

        return await transaction(self._engine, work)

    async def audit(self, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """One line of who did what."""

        async def work(connection: AsyncConnection) -> None:
            values = {"actor": actor, "action": action, "subject": subject, "detail": Jsonb(dict(detail))}
            await connection.execute(_AUDIT, values)

        await transaction(single_statements(self._engine), work)


def _experiment_values(new: NewExperiment) -> dict[str, Any]:
    compiled = new.compiled
    return {
        "id": new.id,
        "name": compiled.name,
        "description": compiled.description,
        "project": new.project,
        "owner": new.owner,
        "status": str(ExperimentState.RUNNING if new.start else ExperimentState.DRAFT),
        "tags": list(compiled.tags),
        "priority": compiled.priority,
        "deadline": datetime.fromtimestamp(compiled.deadline, UTC) if compiled.deadline is not None else None,
        "hard_deadline": compiled.hard_deadline,
        "budget": compiled.budget,
        "objective": Jsonb(dict(compiled.objective)),
        "document": Jsonb(dict(new.document)),
        "key": new.idempotency_key,
        "digest": new.request_digest,
        "derived_from": new.derived_from,
    }


def _step_values(new: NewExperiment, ids: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "id": ids[step.position],
            "position": step.position,
            "name": step.name,
            "n": step.n,
            "spec": step.to_json(),
            "needs": sorted({ids[position] for position in (*step.gather, *step.after)}),
            "follows": [ids[position] for position in step.foreach],
            "fan_out": step.fan_out,
        }
        for step in new.compiled.steps
    ]


async def _lock(connection: AsyncConnection, experiment: str) -> tuple[ExperimentState, str]:
    row = (await connection.execute(_LOCK, {"id": experiment})).first()
    if row is None:
        raise NotFoundError(f"there is no experiment {experiment}", remedy="see `airavata experiment list`")
    return ExperimentState(row.status), row.project


async def _set_status(connection: AsyncConnection, experiment: str, status: ExperimentState, reason: str) -> None:
    values = {"id": experiment, "status": str(status), "reason": reason, "finished": status in FINISHED}
    await connection.execute(_SET_STATUS, values)
