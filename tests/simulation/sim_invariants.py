"""What must hold at every moment, whatever failed: section 7 of the design, as functions over the database."""

from __future__ import annotations

from collections import Counter

from airavata_scheduler.adapters.memory.database import ExperimentRow, MemoryDatabase, StepRow
from airavata_scheduler.platform.domain.states import ACTIVE, TERMINAL, WAITING, ExperimentState, TaskState


class Watch:
    """Checks every invariant; remembers what may never change again."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        self.checks = 0
        self._succeeded: dict[tuple[int, int], int] = {}
        self._attempts: Counter[tuple[int, int]] = Counter()

    def check(self) -> None:
        """After every step of the simulation."""
        self.checks += 1
        for experiment in self.database.experiments.values():
            finished_if_and_only_if_all_tasks_are(experiment)
            canceled_has_nothing_open(experiment)
            for step in experiment.steps:
                counts_equal_rows(step)
                ranges_are_claimed_in_order(step)
                only_who_holds_a_task_is_named(self.database, step)
                nothing_starts_before_what_it_needs(self.database, step)
                tasks_are_where_they_may_run(self.database, step)
                self.success_is_for_ever(step)
        no_worker_runs_more_than_it_has(self.database)
        outputs_are_those_of_the_attempt_that_succeeded(self.database)

    def success_is_for_ever(self, step: StepRow) -> None:
        """S2: a task that succeeded stays so in that attempt, and attempts are only counted upwards."""
        for index, row in step.tasks.items():
            key = (step.step_id, index)
            assert row.attempt >= self._attempts[key], f"task {key} went back to attempt {row.attempt}"
            self._attempts[key] = row.attempt
            if row.state is TaskState.SUCCEEDED:
                assert self._succeeded.setdefault(key, row.attempt) == row.attempt, f"task {key} succeeded twice"
            else:
                assert key not in self._succeeded, f"task {key} is undone"


def counts_equal_rows(step: StepRow) -> None:
    """S1: the counts by which everything is decided are those of the rows; every task is counted exactly once."""
    assert +step.written == Counter(row.state for row in step.tasks.values()), (
        f"counts of step {step.step_id} are wrong"
    )
    assert sum(step.counts().values()) == step.n
    assert all(0 <= index < step.n for index in step.tasks)


def ranges_are_claimed_in_order(step: StepRow) -> None:
    """S1: no task of a range is passed over: below `next_index` each has a row, above none."""
    if not step.follows:
        assert sorted(step.tasks) == list(range(step.next_index)), (
            f"step {step.step_id} has holes below {step.next_index}"
        )


def only_who_holds_a_task_is_named(database: MemoryDatabase, step: StepRow) -> None:
    """S1, S3: what is active has a worker and an attempt, so its loss will be noticed; what waits has no worker."""
    for index, row in step.tasks.items():
        if row.state in ACTIVE:
            assert row.worker_id in database.workers, f"task {step.step_id, index} is active with nobody"
            assert row.attempt > 0
        elif row.state in WAITING:
            assert row.worker_id is None, f"task {step.step_id, index} waits and is still with {row.worker_id}"


def finished_if_and_only_if_all_tasks_are(experiment: ExperimentRow) -> None:
    """S6: an experiment is finished if and only if all its tasks are."""
    ended = all(step.status().ended for step in experiment.steps)
    assert (experiment.finished_at is not None) == experiment.status.finished, f"{experiment.new.id} contradicts itself"
    assert experiment.status.finished == ended, f"{experiment.new.id} is {experiment.status}, all tasks ended: {ended}"


def canceled_has_nothing_open(experiment: ExperimentRow) -> None:
    """S5: nothing of a canceled experiment runs or may still start."""
    if experiment.status is ExperimentState.CANCELED:
        for step in experiment.steps:
            left = {state.name: n for state, n in step.counts().items() if n and state not in TERMINAL}
            assert not left, f"{experiment.new.id} is canceled and has {left}"


def nothing_starts_before_what_it_needs(database: MemoryDatabase, step: StepRow) -> None:
    """S6: a task is ready or further only when every task it follows, and every step it needs, succeeded."""
    begun = [i for i, row in step.tasks.items() if row.state in ACTIVE | {TaskState.READY, TaskState.SUCCEEDED}]
    if begun or step.rest_state is TaskState.READY:
        assert all(database.steps[i].status().succeeded for i in step.needs), f"step {step.step_id} began too early"
    for index in begun:
        for upstream in step.follows:
            state = database.steps[upstream].state(index // step.compiled.fan_out)
            assert state is TaskState.SUCCEEDED, f"task {step.step_id, index} follows one that is {state.name}"


def tasks_are_where_they_may_run(database: MemoryDatabase, step: StepRow) -> None:
    """S4: no task is on a worker that is too small for it, or on a resource that its document denies."""
    for index, row in step.tasks.items():
        if row.state in ACTIVE and row.worker_id is not None:
            hello = database.workers[row.worker_id].hello
            assert step.compiled.program.request.fits_in(hello.capacity), f"task {step.step_id, index} does not fit"
            assert step.compiled.may_use(hello.resource), f"task {step.step_id, index} is on {hello.resource}"


def no_worker_runs_more_than_it_has(database: MemoryDatabase) -> None:
    """S4: what runs on a worker, taken together, fits it. What it has claimed ahead does not run."""
    used: Counter[int] = Counter()
    for step in database.steps.values():
        for row in step.tasks.values():
            if row.state is TaskState.RUNNING and row.worker_id is not None:
                used[row.worker_id] += step.compiled.program.request.cpu
    for worker_id, cpu in used.items():
        has = database.workers[worker_id].hello.capacity.cpu
        assert cpu <= has + 1e-9, f"worker {worker_id} runs tasks of {cpu:g} cores and has {has:g}"


def outputs_are_those_of_the_attempt_that_succeeded(database: MemoryDatabase) -> None:
    """S2: what is published comes from one attempt, the one that the task's row names as successful."""
    for (step_id, index, _), (attempt, output) in database.outputs.items():
        row = database.steps[step_id].tasks[index]
        assert (row.state, row.attempt) == (TaskState.SUCCEEDED, attempt)
        ended = database.attempts[step_id, index, attempt]
        assert ended.worker_id == row.worker_id
        assert output in ended.report.outputs
