"""Plans in this very process: for tests and simulation, where nobody minds that the loop stands still meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from airavata_scheduler.scheduler_core import Limits, Plan, Point, Snapshot, frontier, plan


class InProcessSolver:
    """`Solver` that calls the planner. ``limited`` may turn the caller's limits into others."""

    def __init__(self, limited: Callable[[Limits], Limits] = lambda limits: limits) -> None:
        self._limited = limited

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        """The plan; errors as the planner raises them."""
        return plan(snapshot, now, self._limited(limits))

    async def frontier(
        self, snapshot: Snapshot, now: float, experiment: str, points: int, limits: Limits
    ) -> tuple[Point, ...] | None:
        """The frontier; errors as the planner raises them."""
        return frontier(snapshot, now, experiment, points, self._limited(limits))
