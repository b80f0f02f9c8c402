"""Since when tasks run, as their workers say: without it a plan gives each of them a whole runtime more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.repository import LiveWorker, PlanningState, TaskKey

#: Who runs longer than was expected goes on for this part of the time that it has run.
_MORE = 0.1


class Running:
    """By worker. What was told before a restart of this process is not known: those count as if nobody had said it."""

    def __init__(self) -> None:
        self._since: dict[int, dict[TaskKey, float]] = {}

    def heard(self, worker_id: int, reports: Iterable[Report]) -> None:
        """Tasks that run for less than a moment are never announced, so most reports are of an end."""
        since = self._since.setdefault(worker_id, {})
        for report in reports:
            if report.state is TaskState.RUNNING and report.started_at:
                since[report[:3]] = report.started_at
            else:
                since.pop(report[:3], None)

    def look(self, state: PlanningState) -> None:
        """Forget workers that are gone, whose tasks others have now."""
        there = {worker.id for worker in state.workers}
        self._since = {worker_id: since for worker_id, since in self._since.items() if worker_id in there}

    def ages(self, workers: Sequence[LiveWorker], now: float) -> dict[tuple[int, str], list[float]]:
        """(step id, resource) -> seconds for which each of its tasks has run, on workers that stay; oldest first."""
        found: dict[tuple[int, str], list[float]] = defaultdict(list)
        for worker in workers:
            for (step_id, _, _), since in self._since.get(worker.id, {}).items() if not worker.draining else ():
                found[step_id, worker.resource].append(max(0.0, now - since))
        return {key: sorted(ages, reverse=True) for key, ages in found.items()}


def left_s(ages: Sequence[float], whole_s: float) -> tuple[float, ...]:
    """How long tasks of that age are expected to go on; those beyond the expectation for a part of their age."""
    return tuple(max(whole_s - age, _MORE * age) for age in ages)
