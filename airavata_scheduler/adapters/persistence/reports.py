"""What happens when attempts end: one transaction that records, releases, skips and finishes.

Every change is conditional on the worker and the attempt still being the task's own. The rows of the experiments
concerned are locked first, in order of id, so transactions about one experiment come one after the other: two steps
that release the same follower cannot both look past each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from airavata_scheduler.adapters.persistence.driver import NULL, copy_field, copy_text, int_array, json_text
from airavata_scheduler.adapters.persistence.events import append
from airavata_scheduler.adapters.persistence.follow import follow
from airavata_scheduler.platform.domain.events import failure_events
from airavata_scheduler.platform.domain.failures import INFRASTRUCTURE_CAUSES, Cause
from airavata_scheduler.platform.domain.messages import Extent, Report
from airavata_scheduler.platform.domain.states import TERMINAL, TaskState
from airavata_scheduler.platform.ports.repository import Charge, ReportContext, ReportOutcome, TaskKey

_LOCK_EXPERIMENTS = sa.text("""
SELECT e.id, e.project FROM experiments e
WHERE e.id IN (SELECT experiment FROM steps WHERE id = ANY(:steps)) ORDER BY e.id FOR NO KEY UPDATE
""")
_KEYS = "unnest(CAST(:steps AS int[]), CAST(:indexes AS int[]), CAST(:attempts AS int[]))"
_PROGRESS = sa.text("""
UPDATE tasks t SET state = r.state
FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[]), CAST(:attempts AS int[]), CAST(:states AS int[]))
  AS r(step_id, index, attempt, state)
WHERE t.step_id = r.step_id AND t.index = r.index AND t.attempt = r.attempt AND t.worker_id = :worker
  AND t.state BETWEEN 2 AND 5 AND t.state < r.state
""")
_CURRENT = sa.text(f"""
SELECT t.step_id, t.index, t.attempt, t.user_failures, t.infrastructure_failures
FROM {_KEYS} AS r(step_id, index, attempt)
JOIN tasks t ON t.step_id = r.step_id AND t.index = r.index AND t.attempt = r.attempt
WHERE t.worker_id = :worker
""")
_END = sa.text("""
UPDATE tasks t SET state = CASE WHEN t.state = 9 THEN 9 ELSE r.state END,
  user_failures = t.user_failures + r.user_failed,
  infrastructure_failures = t.infrastructure_failures + r.infrastructure_failed,
  worker_id = CASE WHEN t.state = 9 OR r.state = 1 THEN NULL ELSE t.worker_id END,
  not_before = clock_timestamp() + make_interval(secs => r.delay_s)
FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[]), CAST(:attempts AS int[]), CAST(:states AS int[]),
            CAST(:user AS int[]), CAST(:infra AS int[]), CAST(:delays AS float8[]))
  AS r(step_id, index, attempt, state, user_failed, infrastructure_failed, delay_s)
WHERE t.step_id = r.step_id AND t.index = r.index AND t.attempt = r.attempt AND t.worker_id = :worker
  AND t.state IN (2, 3, 4, 5, 9)
RETURNING t.step_id, t.index, t.attempt, t.state
""")
# The same for a batch in which everything went well, which is nearly every batch: it answers with the exceptions.
_SUCCEED = sa.text(f"""
WITH r AS MATERIALIZED (SELECT * FROM {_KEYS} AS r(step_id, index, attempt)),
done AS (
  UPDATE tasks t SET state = CASE WHEN t.state = 9 THEN 9 ELSE 6 END,
    worker_id = CASE WHEN t.state = 9 THEN NULL ELSE t.worker_id END
  FROM r
  WHERE t.step_id = r.step_id AND t.index = r.index AND t.attempt = r.attempt AND t.worker_id = :worker
    AND t.state IN (2, 3, 4, 5, 9)
  RETURNING t.step_id, t.index, t.attempt, t.state)
SELECT r.step_id, r.index, r.attempt, d.state FROM r LEFT JOIN done d USING (step_id, index, attempt)
WHERE d.state IS DISTINCT FROM 6
""")
_USAGE = sa.text("""
UPDATE experiments e SET cost = e.cost + u.cost, cpu_s = e.cpu_s + u.cpu_s, version = e.version + 1,
  started_at = least(e.started_at, to_timestamp(u.started_at))
FROM unnest(CAST(:ids AS text[]), CAST(:costs AS float8[]), CAST(:cpus AS float8[]), CAST(:starts AS float8[]))
  AS u(id, cost, cpu_s, started_at)
WHERE e.id = u.id
""")
_OUTPUTS = sa.text("""
INSERT INTO outputs (step_id, index, name, attempt, key, size_bytes, sha256)
SELECT * FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[]), CAST(:names AS text[]), CAST(:attempts AS int[]),
                     CAST(:keys AS text[]), CAST(:sizes AS bigint[]), CAST(:hashes AS text[]))
ON CONFLICT (step_id, index, name) DO UPDATE
SET attempt = excluded.attempt, key = excluded.key, size_bytes = excluded.size_bytes, sha256 = excluded.sha256
""")
_ATTEMPT_COLUMNS = (
    "step_id, index, attempt, state, worker_id, started_at, wall_s, cpu_s, peak_memory_bytes, exit_code, signal, "
    "cause, message, cost, stdout, stderr, results"
)
#: Its row in COPY's format. Times are good to the microsecond: shorter than a float's own text, and quicker to write.
_ATTEMPT_LINE = "%d\t%d\t%d\t%d\t%d\t%s\t%.6f\t%.6f\t%d\t" + "\t".join(["%s"] * 8) + "\n"


class _Price(NamedTuple):
    """Of attempts of one step."""

    per_s: float
    to_start: float

    @classmethod
    def of(cls, step_id: int, context: ReportContext, charge: Charge) -> _Price:
        per_hour = context.cpu * charge.price_per_hour + context.gpu * charge.gpu_price_per_hour
        return cls(per_hour / 3600.0, charge.to_start.get(step_id, 0.0))

    def cost(self, report: Report) -> float:
        return self.per_s * report.wall_s + (self.to_start if report.started_at else 0.0)


class _Ending(NamedTuple):
    """An attempt's report with what becomes of its task."""

    key: TaskKey
    report: Report
    state: TaskState  #: of the task: READY for a retry
    delay_s: float | None = None

    def failed_as(self, *, infrastructure: bool) -> int:
        """1 if this is a failure that counts to the platform's, or to the user's account."""
        if self.report.state is not TaskState.FAILED:
            return 0
        return int(((self.report.cause or Cause.INFRASTRUCTURE) in INFRASTRUCTURE_CAUSES) == infrastructure)


def key_of(report: Report) -> TaskKey:
    """The attempt that a report is about."""
    return report[:3]


async def record(
    connection: AsyncConnection,
    worker_id: int,
    reports: Sequence[Report],
    contexts: Mapping[int, ReportContext],
    charge: Charge,
) -> ReportOutcome:
    """Take the reports of one worker. Reports of attempts that are not its own any more are returned as stale."""
    step_ids = sorted({report.step_id for report in reports})
    projects = {row.id: row.project for row in await connection.execute(_LOCK_EXPERIMENTS, {"steps": step_ids})}
    experiment_of = {step_id: contexts[step_id].experiment for step_id in step_ids}
    last = {key_of(report): report for report in reports if report.state in TERMINAL}
    await _progress(connection, worker_id, [r for r in reports if r.state not in TERMINAL and key_of(r) not in last])
    endings = await _judge(connection, worker_id, last, contexts)
    ended = await _end(connection, worker_id, endings)
    accepted = {ending.key for ending in ended}
    stale = [key for key in last if key not in accepted]
    if not ended:
        return ReportOutcome(stale=stale)
    prices = {step_id: _Price.of(step_id, contexts[step_id], charge) for step_id in step_ids}
    costs = [prices[ending.report.step_id].cost(ending.report) for ending in ended]
    await _write_attempts(connection, worker_id, ended, costs)
    await _write_outputs(connection, ended)
    await _add_usage(connection, ended, experiment_of, costs)
    outcome = await follow(
        connection,
        sorted(projects),
        succeeded=_of_state(ended, TaskState.SUCCEEDED),
        lost=_of_state(ended, TaskState.FAILED),
    )
    failures = failure_events((ending.report for ending in ended), experiment_of, projects)
    await append(connection, [*failures, *outcome.events(projects)])
    retried = sum(1 for ending in ended if ending.state is TaskState.READY)
    return ReportOutcome(stale, outcome.released + retried, outcome.manifests_due, sorted(outcome.finished))


def _of_state(ended: Iterable[_Ending], state: TaskState) -> list[tuple[int, int]]:
    return [(e.report.step_id, e.report.index) for e in ended if e.state is state]


def _key_arrays(keys: Iterable[TaskKey]) -> dict[str, str]:
    steps, indexes, attempts = zip(*keys, strict=True)
    return {"steps": int_array(steps), "indexes": int_array(indexes), "attempts": int_array(attempts)}


async def _progress(connection: AsyncConnection, worker_id: int, reports: Sequence[Report]) -> None:
    if reports:
        arrays = _key_arrays(map(key_of, reports))
        await connection.execute(
            _PROGRESS, {"worker": worker_id, **arrays, "states": int_array(report.state for report in reports)}
        )


async def _judge(
    connection: AsyncConnection, worker_id: int, last: Mapping[TaskKey, Report], contexts: Mapping[int, ReportContext]
) -> list[_Ending]:
    """Retry or end? Only failures need their task's counts, so a batch without failures reads nothing."""
    failed = [key for key, report in last.items() if report.state is not TaskState.SUCCEEDED]
    if not failed:
        return [_Ending(key, report, TaskState.SUCCEEDED) for key, report in last.items()]
    rows = await connection.execute(_CURRENT, {"worker": worker_id, **_key_arrays(failed)})
    current = {(r[0], r[1], r[2]): r for r in rows}
    return [_verdict(key, report, current.get(key), contexts) for key, report in last.items()]


def _verdict(key: TaskKey, report: Report, row: Any, contexts: Mapping[int, ReportContext]) -> _Ending:
    """What the task becomes if nobody canceled it meanwhile (the statement that ends it looks)."""
    if report.state is TaskState.SUCCEEDED:
        return _Ending(key, report, TaskState.SUCCEEDED)
    if report.state is TaskState.CANCELED:  # the worker ended it by itself: it drains or stops
        return _Ending(key, report, TaskState.READY)
    if row is None:  # stale: the statement that ends it will not find it
        return _Ending(key, report, TaskState.FAILED)
    cause = report.cause or Cause.INFRASTRUCTURE
    infrastructure = cause in INFRASTRUCTURE_CAUSES
    delay_s = contexts[report.step_id].retry.delay_s(
        cause, row.user_failures + (not infrastructure), row.infrastructure_failures + infrastructure
    )
    return _Ending(key, report, TaskState.FAILED if delay_s is None else TaskState.READY, delay_s)


async def _end(connection: AsyncConnection, worker_id: int, endings: Sequence[_Ending]) -> list[_Ending]:
    """Those that took effect, with the state the task really has now."""
    if not endings:
        return []
    values: dict[str, Any] = {"worker": worker_id, **_key_arrays(ending.key for ending in endings)}
    if all(ending.state is TaskState.SUCCEEDED for ending in endings):
        now: dict[TaskKey, int | None] = dict.fromkeys([ending.key for ending in endings], TaskState.SUCCEEDED)
        for step_id, index, attempt, state in await connection.execute(_SUCCEED, values):
            now[step_id, index, attempt] = state
    else:
        values |= {
            "states": int_array(ending.state for ending in endings),
            "user": int_array(ending.failed_as(infrastructure=False) for ending in endings),
            "infra": int_array(ending.failed_as(infrastructure=True) for ending in endings),
            "delays": [ending.delay_s for ending in endings],
        }
        now = {(r[0], r[1], r[2]): r[3] for r in await connection.execute(_END, values)}
    return [
        ending if ending.state == state else ending._replace(state=TaskState(state))
        for ending in endings
        if (state := now.get(ending.key)) is not None
    ]


def _extent(extent: Extent) -> str:
    return copy_field(json_text([extent.segment, extent.offset, extent.length, extent.truncated]))


async def _write_attempts(
    connection: AsyncConnection, worker_id: int, ended: Sequence[_Ending], costs: Sequence[float]
) -> None:
    lines = [
        _attempt_line(report, worker_id, cost)
        for (_, report, *_), cost in zip(ended, costs, strict=True)
        # What was canceled or given back before it started was no attempt.
        if report.started_at or report.state is not TaskState.CANCELED
    ]
    await copy_text(connection, "attempts", _ATTEMPT_COLUMNS, lines)


def _attempt_line(report: Report, worker_id: int, cost: float) -> str:
    """A row in COPY's format, in the order of `_ATTEMPT_COLUMNS`. Only text of programs needs to be looked at."""
    (step_id, index, attempt, state, cause, message, exit_code, signal, started_at, wall_s, cpu_s, peak_bytes,
     _, stdout, stderr, _, results) = report  # fmt: skip
    return _ATTEMPT_LINE % (
        step_id, index, attempt, state, worker_id, _moment(started_at), wall_s, cpu_s, peak_bytes,
        NULL if exit_code is None else exit_code,
        NULL if signal is None else signal,
        cause or NULL,
        copy_field(message) if message else NULL,
        cost,
        NULL if stdout is None else _extent(stdout),
        NULL if stderr is None else _extent(stderr),
        NULL if results is None else copy_field(json_text(results)),
    )  # fmt: skip


def _moment(seconds: float) -> str:
    if not seconds:
        return NULL
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06d}Z"


@lru_cache(maxsize=128)
def _second(seconds: int) -> str:
    """Many attempts of a batch start in the same second, and dates are dear to make."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


async def _write_outputs(connection: AsyncConnection, ended: Sequence[_Ending]) -> None:
    rows = [
        (*ending.key, output)
        for ending in ended
        if ending.state is TaskState.SUCCEEDED
        for output in ending.report.outputs
    ]
    if rows:
        values = {
            **_key_arrays((step_id, index, attempt) for step_id, index, attempt, _ in rows),
            "names": [output.name for *_, output in rows],
            "keys": [output.key for *_, output in rows],
            "sizes": [output.size_bytes for *_, output in rows],
            "hashes": [output.sha256 for *_, output in rows],
        }
        await connection.execute(_OUTPUTS, values)


async def _add_usage(
    connection: AsyncConnection, ended: Sequence[_Ending], experiment_of: Mapping[int, str], costs: Sequence[float]
) -> None:
    usage: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for (_, report, *_), cost in zip(ended, costs, strict=True):
        usage[experiment_of[report.step_id]].append((cost, report.cpu_s, report.started_at or float("inf")))
    ids = sorted(usage)
    columns = [tuple(zip(*usage[experiment], strict=True)) for experiment in ids]
    values = {
        "ids": ids,
        "costs": [sum(costs) for costs, _, _ in columns],
        "cpus": [sum(cpus) for _, cpus, _ in columns],
        "starts": [None if (first := min(starts)) == float("inf") else first for _, _, starts in columns],
    }
    await connection.execute(_USAGE, values)
