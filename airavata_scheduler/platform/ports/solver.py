"""Where plans are computed: beside the event loop, under a limit."""

from __future__ import annotations

from typing import Protocol

from airavata_scheduler.scheduler_core import Limits, Plan, Point, Snapshot


class Solver(Protocol):
    """Runs `scheduler_core.plan` and `scheduler_core.frontier`. PlannerError for a malformed snapshot."""

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        """The plan; None if the limit was overrun or the solver died: the last good plan stands."""
        ...

    async def frontier(
        self, snapshot: Snapshot, now: float, experiment: str, points: int, limits: Limits
    ) -> tuple[Point, ...] | None:
        """Non-dominated plans for one experiment, fastest first; None as above."""
        ...
