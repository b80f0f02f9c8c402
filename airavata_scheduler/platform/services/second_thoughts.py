"""A better plan of the same snapshot, computed in the background while the quick one is in force.

A quick plan of many tasks is a fluid: good on the whole, and ragged where deadlines compete, where large tasks must be
packed, and at the end. Looking at single tasks (or bundles of them) takes up to a second or two of one core. That is
spent only on plans that last far longer, of tasks whose runtimes are mostly known, and at most a tenth of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.solver import Solver
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.scheduler_core import Limits, Plan, PlannerError, Snapshot

_LIMITS = Limits(time_s=1.0, detail_tasks=2_000, bundles=True)
#: Plans that end sooner are not worth it.
_LONG_S = 60.0
#: After a thought, nothing for so many times as long.
_REST = 9.0
#: Where things change faster than one can think, the quick plans are taken for what they are after so long.
_PATIENCE_S = 30.0


class SecondThoughts:
    """At most one thought at a time; ``adopt`` gets a better plan while its snapshot is still the latest."""

    def __init__(self, solver: Solver, clock: Clock, adopt: Callable[[Plan], None]) -> None:
        self._solver = solver
        self._clock = clock
        self._adopt = adopt
        self._latest: Snapshot | None = None
        self._pending: tuple[Snapshot, float] | None = None
        self._thinking: asyncio.Task[None] | None = None
        self._rests_until_s = 0.0
        self._unsettled_since_s: float | None = None

    @property
    def settled(self) -> bool:
        """Whether the plan in force is the best that may be expected soon."""
        since_s = self._unsettled_since_s
        return since_s is None or self._clock.monotonic() - since_s > _PATIENCE_S

    def consider(self, snapshot: Snapshot, quick: Plan, at: float, known: Mapping[int, KnownStep], tasks: int) -> None:
        """``quick`` was made of the snapshot, at that time; up to ``tasks`` tasks it was thought through."""
        self._latest = snapshot
        if not _is_worth_it(snapshot, quick, known, tasks):
            self._pending, self._unsettled_since_s = None, None
            return
        self._pending = (snapshot, at)
        if self._unsettled_since_s is None:
            self._unsettled_since_s = self._clock.monotonic()

    def look(self) -> None:
        """Begin a thought if one is due."""
        if self._pending is None or self._clock.monotonic() < self._rests_until_s:
            return
        if self._thinking is None or self._thinking.done():
            self._thinking = asyncio.get_running_loop().create_task(self._think(*self._pending))
            self._pending = None

    async def _think(self, snapshot: Snapshot, at: float) -> None:
        begun_s = self._clock.monotonic()
        try:
            better = await self._solver.solve(snapshot, at, _LIMITS)
        except PlannerError:
            better = None
        ended_s = self._clock.monotonic()
        self._rests_until_s = ended_s + _REST * (ended_s - begun_s)
        if self._latest is not snapshot:
            return
        self._unsettled_since_s = None
        if better is not None:
            self._adopt(better)


def _is_worth_it(snapshot: Snapshot, quick: Plan, known: Mapping[int, KnownStep], tasks: int) -> bool:
    """More tasks than the quick plan looked at, that last for long, and of most of which the runtime is known."""
    many = sum(group.n_ready + group.n_blocked for group in snapshot.groups) > tasks
    long = max((forecast.finish_s for forecast in quick.forecasts), default=0.0) >= _LONG_S
    ready = [(group.n_ready, group.runtime.n > 0 or known[int(group.key)].step.time_s) for group in snapshot.groups]
    return many and long and 2 * sum(n for n, sure in ready if sure) >= sum(n for n, _ in ready)
