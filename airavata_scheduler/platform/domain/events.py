"""What is written down about what happens, and what a batch of reports leads to. Standard library only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState

_SHOWN_INDEXES = 20
_SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One event to be written."""

    kind: str
    experiment: str | None
    project: str | None
    data: Mapping[str, Any]


@dataclass(slots=True)
class Followed:
    """What followed from tasks that ended."""

    released: int = 0
    manifests_due: list[int] = field(default_factory=list)
    finished: dict[str, ExperimentState] = field(default_factory=dict)

    def events(self, projects: Mapping[str, str]) -> list[Event]:
        """An event for each experiment that ended."""
        return [
            Event("experiment.finished", experiment, projects[experiment], {"status": str(state)})
            for experiment, state in self.finished.items()
        ]


def failure_events(
    reports: Iterable[Report], experiment_of: Mapping[int, str], projects: Mapping[str, str]
) -> list[Event]:
    """One event for each step with failures, however many: counts by cause and the first few indexes.

    ``experiment_of``: step id -> experiment; ``projects``: experiment -> project.
    """
    by_step: dict[int, list[Report]] = defaultdict(list)
    for report in reports:
        if report.state is TaskState.FAILED:
            by_step[report.step_id].append(report)
    return [
        Event("task.failed", experiment_of[step_id], projects[experiment_of[step_id]], _failures(step_id, failed))
        for step_id, failed in by_step.items()
    ]


def _failures(step_id: int, failed: list[Report]) -> dict[str, Any]:
    return {
        "step_id": step_id,
        "count": len(failed),
        "causes": Counter(str(report.cause) for report in failed),
        "indexes": [report.index for report in failed[:_SHOWN_INDEXES]],
        "message": failed[0].message[:_SHOWN_CHARACTERS],
    }
