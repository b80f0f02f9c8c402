"""Tasks, their attempts and their outputs. Tasks without a row are filled in from the range that their step is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from airavata_scheduler.adapters.persistence.queries_experiments import missing
from airavata_scheduler.adapters.persistence.reading import (
    REST,
    STATE_NAMES,
    Reader,
    decode_cursor,
    encode_cursor,
    epoch,
)
from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.messages import Extent, Output
from airavata_scheduler.platform.domain.states import ACTIVE, TaskState
from airavata_scheduler.platform.domain.views import AttemptView, OutputView, Page, TaskView
from airavata_scheduler.platform.ports.queries import LogSource

#: Steps never change, so their compiled form may be kept; bounded, because a sweep can hold a large table.
_KEPT_STEPS = 256
_HOLE_SCAN = 4096

_WRITTEN = ", ".join(f"coalesce(c.{name}, 0) AS {name}" for name in STATE_NAMES)
_STEP = f"""
SELECT s.id, s.position, s.name, s.n, s.rest_state, s.next_index, {REST} AS rest, {_WRITTEN},
  CASE WHEN s.position = :position THEN :index ELSE 0 END AS low
FROM steps s LEFT JOIN step_counts c ON c.step_id = s.id
WHERE s.experiment = :experiment AND s.position >= :position
"""
_ROW = "t.index, t.state, t.attempt, t.worker_id, t.not_before"

#: Every index, with the row where there is one. OFFSET 0 keeps it a lookup for each index of the page.
_ALL = f"""
SELECT g.index, coalesce(t.state, s.rest_state) AS state, coalesce(t.attempt, 0) AS attempt, t.worker_id, t.not_before
FROM generate_series(s.low, least(s.low + :limit, s.n) - 1) g(index)
LEFT JOIN LATERAL (SELECT {_ROW} FROM tasks t WHERE t.step_id = s.id AND t.index = g.index OFFSET 0) t ON true
"""

#: Indexes without a row, found in strides; PostgreSQL evaluates no more strides than the LIMIT asks for.
_HOLES = f"""
SELECT h.index, s.rest_state, 0::smallint, NULL::integer, NULL::timestamptz FROM (
  WITH RECURSIVE stride(low) AS (
    SELECT greatest(s.low, s.next_index) WHERE s.rest > 0 AND s.rest_state IN ({{rest}})
    UNION ALL SELECT low + {_HOLE_SCAN} FROM stride WHERE low + {_HOLE_SCAN} < s.n
  )
  SELECT g.index FROM stride
  CROSS JOIN LATERAL (
    SELECT g.index FROM generate_series(stride.low, least(stride.low + {_HOLE_SCAN}, s.n) - 1) g(index)
    EXCEPT SELECT t.index FROM tasks t
    WHERE t.step_id = s.id AND t.index >= stride.low AND t.index < stride.low + {_HOLE_SCAN}
    ORDER BY index
  ) g
  LIMIT :limit
) h
"""

_DETAIL = f"""
SELECT p.step_id, p.step, p.position, p.index, p.state, p.attempt, {epoch("p.not_before")} AS not_before,
  w.name AS worker, r.name AS resource, a.cause, a.message
FROM ({{page}}) p
LEFT JOIN attempts a ON a.step_id = p.step_id AND a.index = p.index AND a.attempt = p.attempt
LEFT JOIN workers w ON w.id = coalesce(p.worker_id, a.worker_id)
LEFT JOIN resources r ON r.id = w.resource_id
ORDER BY p.position, p.index
"""
_PAGE = f"""
SELECT s.id AS step_id, s.name AS step, s.position, t.* FROM ({_STEP}{{step}}) s
CROSS JOIN LATERAL ({{tasks}}) t ORDER BY s.position, t.index LIMIT :limit
"""
_ONE = _DETAIL.format(
    page="""
SELECT s.id AS step_id, s.name AS step, s.position, :index AS index, coalesce(t.state, s.rest_state) AS state,
  coalesce(t.attempt, 0) AS attempt, t.worker_id, t.not_before
FROM steps s LEFT JOIN tasks t ON t.step_id = s.id AND t.index = :index
WHERE s.experiment = :experiment AND s.name = :step AND s.n > :index
"""
)
_ATTEMPTS = f"""
SELECT a.attempt, a.state, w.name AS worker, r.name AS resource, {epoch("a.started_at")} AS started_at,
  a.wall_s, a.cpu_s, a.peak_memory_bytes, a.exit_code, a.signal, a.cause, coalesce(a.message, '') AS message, a.cost,
  a.stdout, a.stderr, a.results, CASE WHEN a.state = {TaskState.SUCCEEDED:d} THEN (
    SELECT json_agg(json_build_array(o.name, o.key, o.size_bytes, o.sha256) ORDER BY o.name) FROM outputs o
    WHERE o.step_id = a.step_id AND o.index = a.index AND o.attempt = a.attempt) END AS outputs
FROM attempts a LEFT JOIN workers w ON w.id = a.worker_id LEFT JOIN resources r ON r.id = w.resource_id
WHERE a.step_id = :step_id AND a.index = :index ORDER BY a.attempt
"""
_LOG = """
SELECT s.id AS step_id, coalesce(a.attempt, t.attempt, 0) AS attempt,
  coalesce(a.state, t.state, s.rest_state) AS state,
  coalesce(a.worker_id, t.worker_id) AS worker_id, a.stdout, a.stderr, coalesce(t.attempt, 0) AS latest
FROM steps s
LEFT JOIN tasks t ON t.step_id = s.id AND t.index = :index
LEFT JOIN attempts a ON a.step_id = s.id AND a.index = :index
  AND a.attempt = coalesce(CAST(:attempt AS integer), t.attempt)
WHERE s.experiment = :experiment AND s.name = :step AND s.n > :index
"""
_OUTPUTS = """
SELECT s.position, s.name AS step, o.index, o.name, o.key, o.size_bytes, o.sha256 FROM (
  SELECT s.id, s.position, s.name FROM steps s WHERE s.experiment = :experiment AND s.position >= :position{step}) s
CROSS JOIN LATERAL (
  SELECT o.* FROM outputs o JOIN tasks t ON t.step_id = o.step_id AND t.index = o.index AND t.attempt = o.attempt
  WHERE o.step_id = s.id AND t.state = 6 AND (s.position > :position OR (o.index, o.name) > (:index, :after))
  ORDER BY o.index, o.name LIMIT :limit) o
ORDER BY s.position, o.index, o.name LIMIT :limit
"""
_OUTPUT = """
SELECT s.name AS step, o.index, o.name, o.key, o.size_bytes, o.sha256 FROM steps s
JOIN outputs o ON o.step_id = s.id AND o.index = :index AND o.name = :name
JOIN tasks t ON t.step_id = o.step_id AND t.index = o.index AND t.attempt = o.attempt AND t.state = 6
WHERE s.experiment = :experiment AND s.name = :step
"""
_PRESENT = """
SELECT (SELECT count(*) FROM steps s WHERE s.experiment = e.id AND s.name = :step) AS n
FROM experiments e WHERE e.id = :id
"""
_STORAGE = "default"


def _branch(state: TaskState) -> str:
    """Rows in one state by index; written so that the partial indexes of `tasks` apply, and none is read in vain."""
    some = f"s.{STATE_NAMES[state]} > 0"
    rows = f"SELECT {_ROW} FROM tasks t WHERE {some} AND t.step_id = s.id AND t.index >= s.low"
    if state in ACTIVE:
        few = f"{rows} AND t.state BETWEEN 2 AND 5 OFFSET 0"
        return f"(SELECT * FROM ({few}) t WHERE t.state = {state:d} ORDER BY t.index LIMIT :limit)"
    return f"({rows} AND t.state = {state:d} ORDER BY t.index LIMIT :limit)"


def _tasks_of(states: Sequence[TaskState]) -> str:
    if not states or len(set(states)) == len(TaskState):
        return _ALL
    branches = [_branch(state) for state in sorted(set(states))]
    holes = _HOLES.format(rest=", ".join(f"{state:d}" for state in states))
    return f"SELECT * FROM ({' UNION ALL '.join([*branches, f'({holes})'])}) t ORDER BY t.index LIMIT :limit"


def extent(stored: Sequence[Any] | None) -> Extent | None:
    """The extent that was stored as a JSON list."""
    return None if stored is None else Extent(*stored)


def _attempt(row: Mapping[str, Any]) -> AttemptView:
    changed = {
        "state": TaskState(row["state"]),
        "stdout": extent(row["stdout"]),
        "stderr": extent(row["stderr"]),
        "outputs": tuple(Output(*output) for output in row["outputs"] or ()),
    }
    return AttemptView(**{**row, **changed})


class TaskQueries(Reader):
    """The part of the port that is about tasks."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._steps: OrderedDict[int, CompiledStep] = OrderedDict()

    async def steps(self, ids: Sequence[int]) -> Mapping[int, CompiledStep]:
        """Compiled steps; one statement for those that are not known yet."""
        kept = self._steps
        unknown = [step_id for step_id in set(ids) if step_id not in kept]
        fresh = {}
        if unknown:
            found = await self.rows("SELECT id, spec FROM steps WHERE id = ANY(:ids)", {"ids": unknown})
            fresh = {row["id"]: CompiledStep.from_json(row["spec"]) for row in found}
        answer = {step_id: fresh[step_id] if step_id in fresh else kept[step_id] for step_id in set(ids)}
        kept.update(fresh)
        while len(kept) > _KEPT_STEPS:
            kept.popitem(last=False)
        return answer

    async def _views(self, experiment: str, found: Sequence[Mapping[str, Any]]) -> list[TaskView]:
        steps = await self.steps([row["step_id"] for row in found])
        return [
            TaskView(
                experiment=experiment,
                step=row["step"],
                index=row["index"],
                state=TaskState(row["state"]),
                attempt=row["attempt"],
                parameters=steps[row["step_id"]].parameters(row["index"]),
                worker=row["worker"],
                resource=row["resource"],
                not_before=row["not_before"],
                cause=row["cause"],
                message=row["message"] or "",
            )
            for row in found
        ]

    async def tasks(
        self, experiment: str, step: str | None, states: Sequence[TaskState], limit: int, cursor: str | None
    ) -> Page[TaskView]:
        position, index = decode_cursor(cursor, int, int) if cursor else (0, 0)
        page = _PAGE.format(step="" if step is None else " AND s.name = :step", tasks=_tasks_of(states))
        given = {"experiment": experiment, "position": min(position, 32767), "index": min(index, 2**31 - 1)}
        given |= {"limit": limit + 1, **({} if step is None else {"step": step})}
        found = await self.rows(_DETAIL.format(page=page), given)
        if not found:
            await self._require(experiment, step)
        items = await self._views(experiment, found[:limit])
        more = len(found) > limit
        return Page(items, encode_cursor(found[limit]["position"], found[limit]["index"]) if more else None)

    async def _require(self, experiment: str, step: str | None) -> None:
        """NotFoundError unless the experiment, and its step, are there."""
        row = await self.row(_PRESENT, {"id": experiment, "step": step or ""})
        if row is None:
            raise missing(experiment)
        if step is not None and not row["n"]:
            raise NotFoundError(
                f"the experiment has no step {step!r}", path="step", remedy="see `steps` of the experiment"
            )

    async def task(self, experiment: str, step: str, index: int) -> TaskView:
        row = await self.row(_ONE, {"experiment": experiment, "step": step, "index": index})
        if row is None:
            await self._require(experiment, step)
            raise self._no_task(step, index)
        view = (await self._views(experiment, [row]))[0]
        found = await self.rows(_ATTEMPTS, {"step_id": row["step_id"], "index": index})
        shown = {name: getattr(view, name) for name in view.__dataclass_fields__}
        return TaskView(**{**shown, "attempts": tuple(_attempt(attempt) for attempt in found)})

    @staticmethod
    def _no_task(step: str, index: int) -> NotFoundError:
        return NotFoundError(
            f"the step {step!r} has no task {index}", path="index", remedy="indexes go from 0 to n - 1"
        )

    async def log_source(self, experiment: str, step: str, index: int, attempt: int | None) -> LogSource:
        given = {"experiment": experiment, "step": step, "index": index, "attempt": attempt}
        row = await self.row(_LOG, given)
        if row is None:
            await self._require(experiment, step)
            raise self._no_task(step, index)
        if attempt is not None and row["attempt"] != attempt:
            remedy = f"attempts go from 1 to {row['latest']}" if row["latest"] else "it was not started yet"
            raise NotFoundError(f"the task has no attempt {attempt}", path="attempt", remedy=remedy)
        return LogSource(
            step_id=row["step_id"],
            attempt=row["attempt"],
            state=TaskState(row["state"]),
            worker_id=row["worker_id"],
            storage=_STORAGE,
            stdout=extent(row["stdout"]),
            stderr=extent(row["stderr"]),
        )

    async def outputs(self, experiment: str, step: str | None, limit: int, cursor: str | None) -> Page[OutputView]:
        position, index, after = decode_cursor(cursor, int, int, str) if cursor else (0, -1, "")
        statement = _OUTPUTS.format(step="" if step is None else " AND s.name = :step")
        given = {
            "experiment": experiment,
            "position": min(position, 32767),
            "index": min(index, 2**31 - 1),
            "after": after,
        }
        given |= {"limit": limit + 1, **({} if step is None else {"step": step})}
        found = await self.rows(statement, given)
        if not found:
            await self._require(experiment, step)
        items = [
            OutputView(**{k: v for k, v in row.items() if k != "position"}, storage=_STORAGE) for row in found[:limit]
        ]
        last = found[limit - 1] if len(found) > limit else None
        return Page(items, encode_cursor(last["position"], last["index"], last["name"]) if last else None)

    async def output(self, experiment: str, step: str, index: int, name: str) -> OutputView:
        row = await self.row(_OUTPUT, {"experiment": experiment, "step": step, "index": index, "name": name})
        if row is None:
            await self._require(experiment, step)
            message = f"the task {index} of {step!r} has published no output {name!r}"
            raise NotFoundError(message, path="name", remedy="see its state, and `task_outputs` of the document")
        return OutputView(**row, storage=_STORAGE)
