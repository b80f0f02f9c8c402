"""`TaskStore` on PostgreSQL: planning state, claims and reports, each one transaction over sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.driver import json_text
from airavata_scheduler.adapters.persistence.engine import single_statements, transaction
from airavata_scheduler.adapters.persistence.leases import check_fence
from airavata_scheduler.adapters.persistence.refusals import record_each
from airavata_scheduler.adapters.persistence.reports import record
from airavata_scheduler.platform.domain.failures import INFRASTRUCTURE_CAUSES
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.repository import (
    AttemptStatistics,
    Charge,
    Fence,
    LiveWorker,
    OpenStep,
    OutputStatistics,
    PlannableResource,
    PlanningState,
    QueueWaitsSeen,
    ReportContext,
    ReportOutcome,
    StepSpec,
    TaskKey,
)

#: Attempts of a step that are looked at again after a restart.
_LATEST = 200
_STEPS = sa.text("""
SELECT s.id, e.id AS experiment, e.project, p.weight, e.priority, e.objective, e.budget, e.cost, s.n,
       extract(epoch FROM e.deadline)::float8 AS deadline, extract(epoch FROM e.submitted_at)::float8 AS submitted_at,
       e.hard_deadline, c.ready + CASE WHEN s.rest_state = 1 THEN s.n - c.written ELSE 0 END AS ready,
       s.n - c.succeeded - c.failed - c.skipped - c.canceled AS remaining
FROM experiments e
JOIN projects p ON p.name = e.project
JOIN steps s ON s.experiment = e.id
JOIN step_counts c ON c.step_id = s.id
WHERE e.finished_at IS NULL AND e.status = 'RUNNING'
  AND s.n > c.succeeded + c.failed + c.skipped + c.canceled AND s.rest_state IN (0, 1)
""")
_ACTIVE = sa.text("""
SELECT t.step_id, t.worker_id, w.resource_id, count(*) AS n FROM tasks t JOIN workers w ON w.id = t.worker_id
WHERE t.state BETWEEN 2 AND 5 GROUP BY 1, 2, 3
""")
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")
_BACK_OFFS = sa.text("""
SELECT step_id, count(*) AS n, extract(epoch FROM min(not_before))::float8 AS ends_at FROM tasks
WHERE state = 1 AND not_before > clock_timestamp() GROUP BY 1
""")
_WORKERS = sa.text("""
SELECT w.id, w.name, w.resource_id, r.name AS resource, w.capacity, w.state = 'draining' AS draining, w.facts
FROM workers w JOIN resources r ON r.id = w.resource_id
WHERE w.state IN ('live', 'draining') AND w.lease_until > clock_timestamp() ORDER BY w.id
""")
_RESOURCE_OF = sa.text("SELECT r.name FROM workers w JOIN resources r ON r.id = w.resource_id WHERE w.id = :worker")
_RESOURCES = sa.text("""
SELECT id, name, enabled, price_per_hour, gpu_price_per_hour, speed, labels, bandwidth_bytes_per_s,
  egress_price_per_gb, queue_waits
FROM resources ORDER BY id
""")
_KEEP_WAITS = sa.text("""
UPDATE resources r SET queue_waits = w.value FROM jsonb_each(CAST(:waits AS jsonb)) AS w(key, value)
WHERE r.name = w.key
""")
_SPECS = sa.text("""
SELECT s.id, s.experiment, s.position, s.name, s.n, s.spec,
       (SELECT jsonb_object_agg(o.position, o.id) FROM steps o WHERE o.experiment = s.experiment) AS ids
FROM steps s WHERE s.id = ANY(:ids)
""")

# Bounded: the primary key is read backwards, a few hundred rows of each step.
_STATISTICS = sa.text(f"""
SELECT s.id AS step_id, r.name AS resource, count(*) AS attempts, count(*) FILTER (WHERE NOT a.good) AS failed,
       count(*) FILTER (WHERE a.good) AS n,
       coalesce(sum(a.logged) FILTER (WHERE a.good), 0)::float8 AS log_sum,
       coalesce(sum(a.logged * a.logged) FILTER (WHERE a.good), 0)::float8 AS log_square_sum,
       coalesce(max(a.wall_s) FILTER (WHERE a.good), 0)::float8 AS largest_s,
       count(a.peak) AS memory_n, coalesce(sum(ln(a.peak)), 0)::float8 AS memory_log_sum,
       coalesce(sum(ln(a.peak) ^ 2), 0)::float8 AS memory_log_square_sum,
       coalesce(max(a.peak), 0)::float8 AS largest_bytes
FROM unnest(CAST(:ids AS int[])) AS s(id) CROSS JOIN LATERAL (
  SELECT worker_id, wall_s, ln(greatest(wall_s, 1e-6)) AS logged, state = 6 AS good,
         CASE WHEN peak_memory_bytes > 0 AND (state = 6 OR cause = 'out_of_memory')
              THEN peak_memory_bytes::float8 END AS peak
  FROM (SELECT * FROM attempts WHERE step_id = s.id ORDER BY index DESC, attempt DESC LIMIT {_LATEST}) latest
  WHERE state = 6 OR (state = 7 AND NOT cause = ANY(:infrastructure))) a
JOIN workers w ON w.id = a.worker_id JOIN resources r ON r.id = w.resource_id
GROUP BY 1, 2 ORDER BY 1, 2
""")
_OUTPUT_STATISTICS = sa.text(f"""
SELECT s.id AS step_id, o.name, count(*) AS n, sum(o.size_bytes)::float8 AS size_bytes
FROM unnest(CAST(:ids AS int[])) AS s(id) CROSS JOIN LATERAL (
  SELECT name, size_bytes FROM outputs WHERE step_id = s.id ORDER BY index DESC, name DESC LIMIT {_LATEST}) o
GROUP BY 1, 2 ORDER BY 1, 2
""")
_FORERUNNERS = sa.text("""
SELECT (SELECT r.id FROM (
          SELECT s.id, s.spec FROM steps s JOIN experiments e ON e.id = s.experiment
          WHERE e.project = :project ORDER BY s.id DESC LIMIT 300) r
        WHERE r.spec -> 'program' = p.program
          AND EXISTS (SELECT FROM attempts a WHERE a.step_id = r.id AND a.state = 6)
        ORDER BY r.id DESC LIMIT 1) AS id
FROM jsonb_array_elements(CAST(:programs AS jsonb)) WITH ORDINALITY AS p(program, position) ORDER BY p.position
""")

# The experiment's row is share-locked, so a claim and a cancel of the same experiment wait for each other, and
# whichever comes second sees what the first did.
_OPEN = """
WITH want AS (SELECT * FROM unnest(CAST(:steps AS int[]), CAST(:counts AS int[])) AS w(step_id, n)),
worker AS (
  SELECT w.id, r.price_per_hour > 0 OR r.gpu_price_per_hour > 0 OR r.egress_price_per_gb > 0 AS priced
  FROM workers w JOIN resources r ON r.id = w.resource_id
  WHERE w.id = :worker AND w.state = 'live' AND w.lease_until > clock_timestamp() FOR SHARE OF w),
open AS (
  SELECT w.step_id, w.n FROM want w
  JOIN steps s ON s.id = w.step_id
  JOIN experiments e ON e.id = s.experiment
  WHERE e.status = 'RUNNING' AND w.n > 0
    AND EXISTS (SELECT FROM worker k WHERE NOT k.priced OR e.budget IS NULL OR e.cost < e.budget)
  ORDER BY e.id FOR SHARE OF e)
"""
_CLAIM_ROWS = sa.text(
    _OPEN
    + """,
picked AS (
  SELECT t.step_id, t.index FROM open o CROSS JOIN LATERAL (
    SELECT step_id, index FROM tasks
    WHERE step_id = o.step_id AND state = 1 AND (not_before IS NULL OR not_before <= clock_timestamp())
    ORDER BY index LIMIT o.n FOR UPDATE SKIP LOCKED) t)
UPDATE tasks t SET state = 2, attempt = t.attempt + 1, worker_id = :worker, not_before = NULL
FROM picked p WHERE t.step_id = p.step_id AND t.index = p.index
RETURNING t.step_id, t.index, t.attempt
"""
)
_CLAIM_RANGE = sa.text(
    _OPEN
    + """,
locked AS (
  SELECT s.id, s.next_index AS first, least(s.next_index + o.n, s.n) AS past
  FROM steps s JOIN open o ON o.step_id = s.id
  WHERE s.rest_state = 1 AND s.next_index < s.n ORDER BY s.id FOR NO KEY UPDATE OF s),
moved AS (UPDATE steps s SET next_index = l.past FROM locked l WHERE s.id = l.id),
written AS (
  INSERT INTO tasks (step_id, index, state, attempt, worker_id)
  SELECT l.id, i, 2, 1, :worker FROM locked l CROSS JOIN LATERAL generate_series(l.first, l.past - 1) i)
SELECT id, first, past FROM locked ORDER BY id
"""
)
# Also what was canceled before the worker ever heard of it: nobody else would let go of that.
_GIVE_BACK = sa.text("""
UPDATE tasks t SET state = CASE t.state WHEN 2 THEN 1 ELSE t.state END, worker_id = NULL
WHERE t.worker_id = :worker AND (t.state = 2 OR t.state = 9) AND NOT EXISTS (
  SELECT FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[]), CAST(:attempts AS int[]))
    AS h(step_id, index, attempt)
  WHERE h.step_id = t.step_id AND h.index = t.index AND h.attempt = t.attempt)
RETURNING t.state
""")
_OUTPUT_KEYS = sa.text("""
SELECT o.step_id, o.index, jsonb_object_agg(o.name, o.key) AS keys
FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[])) AS w(step_id, index)
JOIN outputs o ON o.step_id = w.step_id AND o.index = w.index
GROUP BY 1, 2
""")


class PostgresTaskStore:
    """`TaskStore` over an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # Each statement sees what is committed when it begins, in a transaction or without: what only reads needs none.
        self._reading = single_statements(engine)

    async def planning_state(self) -> PlanningState:
        """Counts by step and resource, workers and resources: independent of the number of tasks."""

        async def work(connection: AsyncConnection) -> PlanningState:
            active: dict[int, dict[int, int]] = {}
            held: dict[int, dict[int, int]] = {}
            for step_id, worker_id, resource_id, n in await connection.execute(_ACTIVE):
                on = active.setdefault(step_id, {})
                on[resource_id] = on.get(resource_id, 0) + n
                held.setdefault(worker_id, {})[step_id] = n
            steps = [_open_step(row, active) for row in await connection.execute(_STEPS)]
            workers = [_live_worker(row) for row in await connection.execute(_WORKERS)]
            resources = [PlannableResource(**row) for row in (await connection.execute(_RESOURCES)).mappings()]
            back_offs = (await connection.execute(_BACK_OFFS)).all()
            next_retry_at = min((row.ends_at for row in back_offs), default=None)
            now = float((await connection.execute(_NOW)).scalar_one())
            in_back_off = {row.step_id: row.n for row in back_offs}
            return PlanningState(now, steps, workers, resources, next_retry_at, held, in_back_off)

        return await transaction(self._reading, work)

    async def step_specs(self, step_ids: Sequence[int]) -> list[StepSpec]:
        """The specifications of steps that still exist."""

        async def work(connection: AsyncConnection) -> list[StepSpec]:
            rows = await connection.execute(_SPECS, {"ids": list(step_ids)})
            return [
                StepSpec(r.id, r.experiment, r.position, r.name, r.n, r.spec, {int(k): v for k, v in r.ids.items()})
                for r in rows
            ]

        return await transaction(self._reading, work)

    async def attempt_statistics(self, step_ids: Sequence[int]) -> list[AttemptStatistics]:
        """One statement for all of them."""

        async def work(connection: AsyncConnection) -> list[AttemptStatistics]:
            values = {"ids": list(step_ids), "infrastructure": [str(cause) for cause in INFRASTRUCTURE_CAUSES]}
            return [AttemptStatistics(**row) for row in (await connection.execute(_STATISTICS, values)).mappings()]

        return await transaction(self._reading, work) if step_ids else []

    async def output_statistics(self, step_ids: Sequence[int]) -> list[OutputStatistics]:
        """One statement for all of them."""

        async def work(connection: AsyncConnection) -> list[OutputStatistics]:
            rows = await connection.execute(_OUTPUT_STATISTICS, {"ids": list(step_ids)})
            return [OutputStatistics(**row) for row in rows.mappings()]

        return await transaction(self._reading, work) if step_ids else []

    async def forerunners(self, project: str, programs: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """One statement for all of them."""

        async def work(connection: AsyncConnection) -> list[int | None]:
            values = {"project": project, "programs": json_text(list(programs))}
            return [row.id for row in await connection.execute(_FORERUNNERS, values)]

        return await transaction(self._reading, work) if programs else []

    async def keep_queue_waits(self, fence: Fence, waits: Mapping[str, QueueWaitsSeen]) -> None:
        """One statement for all of them."""

        async def work(connection: AsyncConnection) -> None:
            await check_fence(connection, fence)
            await connection.execute(_KEEP_WAITS, {"waits": json_text(waits)})

        await transaction(self._engine, work)

    async def claim(self, fence: Fence, worker_id: int, wants: Sequence[tuple[int, int]]) -> list[TaskKey]:
        """First what waits in rows (retries, released one by one), then the next of the range."""

        async def work(connection: AsyncConnection) -> list[TaskKey]:
            await check_fence(connection, fence)
            rows = await connection.execute(_CLAIM_ROWS, _claim_values(worker_id, dict(wants)))
            claimed = sorted((r[0], r[1], r[2]) for r in rows)
            found = Counter(step_id for step_id, _, _ in claimed)
            left = {step_id: n - found[step_id] for step_id, n in wants if n > found[step_id]}
            if left:
                ranges = await connection.execute(_CLAIM_RANGE, _claim_values(worker_id, left))
                claimed += [(step_id, i, 1) for step_id, first, past in ranges for i in range(first, past)]
            return claimed

        return await transaction(self._engine, work)

    async def resource_of(self, worker_id: int) -> str:
        """For the rare worker that no planning state lists."""

        async def work(connection: AsyncConnection) -> str:
            return str((await connection.execute(_RESOURCE_OF, {"worker": worker_id})).scalar() or "")

        return await transaction(self._reading, work)

    async def give_back(self, worker_id: int, held: Sequence[TaskKey]) -> int:
        """What never started is given back, and what was canceled is let go; what runs, the worker would hold."""

        async def work(connection: AsyncConnection) -> int:
            steps, indexes, attempts = zip(*held, strict=True) if held else ((), (), ())
            values = {"worker": worker_id, "steps": list(steps), "indexes": list(indexes), "attempts": list(attempts)}
            return sum(1 for row in await connection.execute(_GIVE_BACK, values) if row.state == TaskState.READY)

        return await transaction(self._engine, work)

    async def report(
        self, worker_id: int, reports: Sequence[Report], contexts: Mapping[int, ReportContext], charge: Charge
    ) -> ReportOutcome:
        """See `reports.record`."""

        async def store(batch: Sequence[Report]) -> ReportOutcome:
            async def work(connection: AsyncConnection) -> ReportOutcome:
                return await record(connection, worker_id, batch, contexts, charge)

            return await transaction(self._engine, work)

        return await record_each(store, reports)

    async def output_keys(self, wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], Mapping[str, str]]:
        """One statement for all of them."""

        async def work(connection: AsyncConnection) -> dict[tuple[int, int], Mapping[str, str]]:
            values = {"steps": [step for step, _ in wanted], "indexes": [index for _, index in wanted]}
            rows = await connection.execute(_OUTPUT_KEYS, values)
            return {(step_id, index): keys for step_id, index, keys in rows}

        return await transaction(self._reading, work) if wanted else {}


def _claim_values(worker_id: int, wants: Mapping[int, int]) -> dict[str, Any]:
    return {"worker": worker_id, "steps": list(wants), "counts": list(wants.values())}


def _open_step(row: sa.Row[Any], active: Mapping[int, Mapping[int, int]]) -> OpenStep:
    return OpenStep(
        step_id=row.id,
        experiment=row.experiment,
        project=row.project,
        project_weight=row.weight,
        priority=row.priority,
        objective=row.objective,
        deadline=row.deadline,
        budget=row.budget,
        cost=row.cost,
        submitted_at=row.submitted_at,
        n=row.n,
        ready=row.ready,
        remaining=row.remaining,
        active=active.get(row.id, {}),
        hard_deadline=row.hard_deadline,
    )


def _live_worker(row: sa.Row[Any]) -> LiveWorker:
    capacity = Capacity.from_json(row.capacity)
    return LiveWorker(row.id, row.name, row.resource_id, row.resource, capacity, row.draining, row.facts)
