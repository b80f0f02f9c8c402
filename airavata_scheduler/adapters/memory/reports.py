"""What happens in a memory database when attempts end: record, release, skip and finish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airavata_scheduler.adapters.memory.database import AttemptRow, MemoryDatabase, TaskRow
from airavata_scheduler.adapters.memory.following import follow
from airavata_scheduler.platform.domain.events import failure_events
from airavata_scheduler.platform.domain.failures import INFRASTRUCTURE_CAUSES, Cause
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import ACTIVE, TERMINAL, TaskState
from airavata_scheduler.platform.ports.repository import Charge, ReportContext, ReportOutcome, TaskKey


@dataclass(frozen=True, slots=True)
class _Ended:
    """A report that took effect, and the state that its task has now."""

    report: Report
    state: TaskState


def record(
    database: MemoryDatabase,
    worker_id: int,
    reports: Sequence[Report],
    contexts: Mapping[int, ReportContext],
    charge: Charge,
) -> ReportOutcome:
    """Take the reports of one worker. Reports of attempts that are not its own any more are returned as stale."""
    last = {key_of(report): report for report in reports if report.state in TERMINAL}
    for report in reports:
        if report.state not in TERMINAL and key_of(report) not in last:
            _progress(database, worker_id, report)
    ended: list[_Ended] = []
    stale: list[TaskKey] = []
    for key, report in last.items():
        state = _end(database, worker_id, report, contexts[report.step_id])
        if state is None:
            stale.append(key)
        else:
            ended.append(_Ended(report, state))
    if not ended:
        return ReportOutcome(stale=stale)
    _store(database, worker_id, ended, contexts, charge)
    experiment_of = {report.step_id: database.steps[report.step_id].experiment for report in reports}
    experiments = sorted(set(experiment_of.values()))
    outcome = follow(
        database,
        experiments,
        succeeded=_of_state(ended, TaskState.SUCCEEDED),
        lost=_of_state(ended, TaskState.FAILED),
    )
    projects = {experiment: database.experiments[experiment].new.project for experiment in experiments}
    failures = failure_events((ending.report for ending in ended), experiment_of, projects)
    database.append([*failures, *outcome.events(projects)])
    retried = sum(1 for ending in ended if ending.state is TaskState.READY)
    return ReportOutcome(stale, outcome.released + retried, outcome.manifests_due, sorted(outcome.finished))


def key_of(report: Report) -> TaskKey:
    """The attempt that a report is about."""
    return report.step_id, report.index, report.attempt


def _of_state(ended: Iterable[_Ended], state: TaskState) -> list[tuple[int, int]]:
    return [(e.report.step_id, e.report.index) for e in ended if e.state is state]


def _progress(database: MemoryDatabase, worker_id: int, report: Report) -> None:
    row = database.owned(worker_id, key_of(report))
    if row is not None and row.state in ACTIVE and row.state < report.state:
        database.steps[report.step_id].move(report.index, report.state)


def _end(database: MemoryDatabase, worker_id: int, report: Report, context: ReportContext) -> TaskState | None:
    """The state of the task now; None if the attempt is not the worker's any more."""
    row = database.owned(worker_id, key_of(report))
    if row is None or (row.state not in ACTIVE and row.state is not TaskState.CANCELED):
        return None
    if report.state is TaskState.FAILED:
        infrastructure = (report.cause or Cause.INFRASTRUCTURE) in INFRASTRUCTURE_CAUSES
        row.infrastructure_failures += infrastructure
        row.user_failures += not infrastructure
    state, delay_s = _verdict(report, row, context)
    row.not_before = None if delay_s is None else database.clock.time() + delay_s
    if row.state is TaskState.CANCELED or state is TaskState.READY:
        row.worker_id = None
    if row.state is not TaskState.CANCELED:
        database.steps[report.step_id].move(report.index, state)
    return row.state


def _verdict(report: Report, row: TaskRow, context: ReportContext) -> tuple[TaskState, float | None]:
    """What the task becomes if nobody canceled it, and the seconds of its back-off."""
    if report.state is TaskState.SUCCEEDED:
        return TaskState.SUCCEEDED, None
    if report.state is TaskState.CANCELED:  # the worker ended it by itself: it drains or stops
        return TaskState.READY, None
    cause = report.cause or Cause.INFRASTRUCTURE
    delay_s = context.retry.delay_s(cause, row.user_failures, row.infrastructure_failures)
    return (TaskState.FAILED, None) if delay_s is None else (TaskState.READY, delay_s)


def _store(
    database: MemoryDatabase,
    worker_id: int,
    ended: Sequence[_Ended],
    contexts: Mapping[int, ReportContext],
    charge: Charge,
) -> None:
    for ending in ended:
        report, context = ending.report, contexts[ending.report.step_id]
        if report.state is TaskState.CANCELED and not report.started_at:
            continue  # before it started: no attempt
        per_hour = context.cpu * charge.price_per_hour + context.gpu * charge.gpu_price_per_hour
        cost = per_hour * report.wall_s / 3600.0
        cost += charge.to_start.get(report.step_id, 0.0) if report.started_at else 0.0
        key = key_of(report)
        if key in database.attempts:
            raise RuntimeError(f"attempt {key} is recorded twice")
        database.attempts[key] = AttemptRow(report, worker_id, database.clock.time(), cost)
        if ending.state is TaskState.SUCCEEDED:
            for output in report.outputs:
                database.outputs[report.step_id, report.index, output.name] = (report.attempt, output)
        experiment = database.experiments[database.steps[report.step_id].experiment]
        experiment.cost += cost
        experiment.cpu_s += report.cpu_s
        if report.started_at:
            experiment.started_at = min(experiment.started_at or report.started_at, report.started_at)
    for name in {database.steps[ending.report.step_id].experiment for ending in ended}:
        database.experiments[name].version += 1
