"""The rows of the results table, streamed by a server-side cursor: a million tasks in the memory of some thousand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from airavata_scheduler.adapters.persistence.queries_tasks import TaskQueries
from airavata_scheduler.adapters.persistence.reading import epoch
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.queries import ResultRow, ResultStep

_BATCH = 10_000

#: One pass over what the tasks reported, so that each column has one type from its first row on. Numbers that neither
#: a 64-bit integer nor a float holds as they are become text, digit by digit.
_STEPS = """
SELECT s.id, s.name, coalesce((
  SELECT json_object_agg(k.key, k.kind) FROM (
    SELECT v.key, CASE
      WHEN bool_and(jsonb_typeof(v.value) = 'boolean') THEN 'bool'
      WHEN bool_and(number IS NOT NULL AND v.value::text ~ '^-?[0-9]+$')
      THEN CASE WHEN bool_and(number BETWEEN -9223372036854775808 AND 9223372036854775807) THEN 'int' ELSE 'str' END
      WHEN bool_and(number IS NOT NULL AND abs(number) < 1.7e308) THEN 'float' ELSE 'str' END AS kind
    FROM tasks t JOIN attempts a ON a.step_id = t.step_id AND a.index = t.index AND a.attempt = t.attempt
    CROSS JOIN LATERAL jsonb_each(a.results) v
    CROSS JOIN LATERAL (SELECT CASE WHEN jsonb_typeof(v.value) = 'number' THEN v.value::numeric END) AS n(number)
    WHERE t.step_id = s.id AND jsonb_typeof(a.results) = 'object' AND jsonb_typeof(v.value) <> 'null'
    GROUP BY v.key) k), '{{}}'::json) AS kinds
FROM steps s WHERE s.experiment = :experiment{step} ORDER BY s.position
"""
_ROWS = f"""
SELECT t.index, t.state, t.attempt, {epoch("a.started_at")}, a.wall_s, a.cpu_s, a.peak_memory_bytes, a.exit_code,
  a.cause, r.name, w.name, a.cost, a.results
FROM tasks t
LEFT JOIN attempts a ON a.step_id = t.step_id AND a.index = t.index AND a.attempt = t.attempt
LEFT JOIN workers w ON w.id = a.worker_id
LEFT JOIN resources r ON r.id = w.resource_id
WHERE t.step_id = :step_id ORDER BY t.index
"""
_STEP = "SELECT s.id, s.n, s.rest_state FROM steps s WHERE s.experiment = :experiment AND s.name = :step"


def _filled(rows: Sequence[Any], first: int, end: int, rest: TaskState) -> Iterator[ResultRow]:
    """The rows, and one for each index from ``first`` to before ``end`` that has none."""
    at = first
    for row in rows:
        for index in range(at, row[0]):
            yield ResultRow(index, rest, 0)
        yield ResultRow(row[0], TaskState(row[1]), *row[2:])
        at = row[0] + 1
    for index in range(at, end):
        yield ResultRow(index, rest, 0)


def _batches(rows: Iterator[ResultRow]) -> Iterator[list[ResultRow]]:
    batch: list[ResultRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class ResultQueries(TaskQueries):
    """The part of the port that is about results."""

    async def result_steps(self, experiment: str, step: str | None) -> Sequence[ResultStep]:
        given = {"experiment": experiment, **({} if step is None else {"step": step})}
        found = await self.rows(_STEPS.format(step="" if step is None else " AND s.name = :step"), given)
        if not found:
            await self._require(experiment, step)
        compiled = await self.steps([row["id"] for row in found])
        return [
            ResultStep(
                row["name"],
                compiled[row["id"]],
                {column: row["kinds"].get(column, "null") for column in compiled[row["id"]].program.results},
            )
            for row in found
        ]

    async def result_rows(self, experiment: str, step: str) -> AsyncIterator[Sequence[ResultRow]]:
        found = await self.row(_STEP, {"experiment": experiment, "step": step})
        if found is None:
            return
        rest, at = TaskState(found["rest_state"]), 0
        async with self._engine.connect() as connection:
            stream = await connection.stream(
                sa.text(_ROWS).bindparams(step_id=found["id"]), execution_options={"yield_per": _BATCH}
            )
            async for rows in stream.partitions(_BATCH):
                end = rows[-1][0] + 1
                for batch in _batches(_filled(rows, at, end, rest)):
                    yield batch
                at = end
        for batch in _batches(_filled((), at, found["n"], rest)):
            yield batch
