"""States of tasks and experiments, and the transitions between them. Standard library only (workers import it)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TaskState(IntEnum):
    """Where one task is. The numbers are stored in the database and must never change."""

    PENDING = 0  #: Waits for a step it needs.
    READY = 1  #: May be claimed by a worker.
    ASSIGNED = 2  #: Claimed; the worker has not said that it started.
    STAGING = 3  #: The worker brings its inputs.
    RUNNING = 4  #: Its process runs.
    COLLECTING = 5  #: Its outputs are being collected.
    SUCCEEDED = 6
    FAILED = 7
    SKIPPED = 8  #: A task it needs did not succeed.
    CANCELED = 9


ACTIVE = frozenset({TaskState.ASSIGNED, TaskState.STAGING, TaskState.RUNNING, TaskState.COLLECTING})
TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELED})
WAITING = frozenset({TaskState.PENDING, TaskState.READY})

#: Every legal transition; anything else is an error. READY from an active state is a retry, from a terminal one the
#: user's `retry`.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset({TaskState.READY, TaskState.SKIPPED, TaskState.CANCELED}),
    TaskState.READY: frozenset({TaskState.ASSIGNED, TaskState.SKIPPED, TaskState.CANCELED}),
    TaskState.ASSIGNED: frozenset(ACTIVE | TERMINAL | {TaskState.READY}) - {TaskState.ASSIGNED, TaskState.SKIPPED},
    TaskState.STAGING: frozenset(
        {
            TaskState.RUNNING,
            TaskState.COLLECTING,
            TaskState.SUCCEEDED,
            TaskState.FAILED,
            TaskState.CANCELED,
            TaskState.READY,
        }
    ),
    TaskState.RUNNING: frozenset(
        {TaskState.COLLECTING, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED, TaskState.READY}
    ),
    TaskState.COLLECTING: frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED, TaskState.READY}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.READY}),
    TaskState.SKIPPED: frozenset({TaskState.PENDING, TaskState.READY}),
    TaskState.CANCELED: frozenset({TaskState.PENDING, TaskState.READY}),
}


class ExperimentState(StrEnum):
    """Where an experiment is. Terminal states follow from its tasks alone."""

    DRAFT = "DRAFT"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL = "PARTIAL"  #: Finished; some tasks succeeded and some failed for good.
    FAILED = "FAILED"  #: Finished; tasks failed and none of the last steps succeeded.
    CANCELED = "CANCELED"

    @property
    def finished(self) -> bool:
        return self in FINISHED


FINISHED = frozenset(
    {ExperimentState.SUCCEEDED, ExperimentState.PARTIAL, ExperimentState.FAILED, ExperimentState.CANCELED}
)


def outcome(succeeded: int, failed: int, skipped: int, canceled: int) -> ExperimentState:
    """The final state of an experiment whose tasks have all ended, from their counts."""
    if canceled:
        return ExperimentState.CANCELED
    if not failed and not skipped:
        return ExperimentState.SUCCEEDED
    return ExperimentState.PARTIAL if succeeded else ExperimentState.FAILED
