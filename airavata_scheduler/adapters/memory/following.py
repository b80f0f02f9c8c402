"""What follows from finished tasks in a memory database: release, skip, open gates, finish experiments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airavata_scheduler.adapters.memory.database import ExperimentRow, MemoryDatabase, StepRow
from airavata_scheduler.platform.domain.events import Followed
from airavata_scheduler.platform.domain.gates import decide
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState


def follow(
    database: MemoryDatabase,
    experiments: Sequence[str],
    *,
    succeeded: Iterable[tuple[int, int]] = (),
    lost: Iterable[tuple[int, int]] = (),
) -> Followed:
    """Draw the consequences of tasks that succeeded, or were lost (failed for good), as (step id, index)."""
    done = Followed()
    for step_id, index in succeeded:
        for follower in _followers(database, step_id):
            if follower.gate_open and follower.rest_state is TaskState.PENDING:
                done.released += _release(database, follower, index)
    _skip(database, list(lost))
    for experiment in experiments:
        if experiment in database.experiments:
            _advance(database, database.experiments[experiment], done)
    return done


def open_gate(database: MemoryDatabase, step: StepRow) -> int:
    """Let the tasks of a step run whose needs are met; how many became ready."""
    if step.gate_open or step.rest_state is not TaskState.PENDING:
        return 0
    step.gate_open = True
    if not step.follows:
        step.move_rest(TaskState.READY)
        return step.n
    first = database.steps[step.follows[0]]
    return sum(_release(database, step, index) for index in first.in_state(TaskState.SUCCEEDED))


def _followers(database: MemoryDatabase, step_id: int) -> list[StepRow]:
    experiment = database.experiments[database.steps[step_id].experiment]
    return [step for step in experiment.steps if step_id in step.follows]


def _release(database: MemoryDatabase, step: StepRow, upstream: int) -> int:
    """The tasks of one upstream index become ready when that index succeeded in every step they follow."""
    if any(database.steps[i].state(upstream) is not TaskState.SUCCEEDED for i in step.follows):
        return 0
    fresh = [i for i in _fan(step, upstream) if i not in step.tasks]
    for index in fresh:
        step.move(index, TaskState.READY)
    return len(fresh)


def _skip(database: MemoryDatabase, lost: list[tuple[int, int]]) -> None:
    """Skip what follows index by index, and what follows that."""
    while lost:
        step_id, upstream = lost.pop()
        for follower in _followers(database, step_id):
            for index in _fan(follower, upstream):
                if index not in follower.tasks:
                    follower.move(index, TaskState.SKIPPED)
                    lost.append((follower.step_id, index))


def _fan(step: StepRow, upstream: int) -> range:
    return range(upstream * step.compiled.fan_out, (upstream + 1) * step.compiled.fan_out)


def _advance(database: MemoryDatabase, row: ExperimentRow, done: Followed) -> None:
    """The rules, until they have nothing more to say."""
    while True:
        decision = decide([step.status() for step in row.steps])
        if decision.finished and row.finished_at is None and row.status in _OPEN:
            row.status, row.reason = decision.finished, ""
            row.finished_at = database.clock.time()
            row.version += 1
            done.finished[row.new.id] = decision.finished
        for step_id in decision.skip:
            database.steps[step_id].move_rest(TaskState.SKIPPED)
        done.released += sum(open_gate(database, database.steps[step_id]) for step_id in decision.open)
        if not decision.changes:
            done.manifests_due += decision.manifests
            return


_OPEN = (ExperimentState.RUNNING, ExperimentState.PAUSED)
