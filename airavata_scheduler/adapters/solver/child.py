"""Solves in a child process that can be killed: solvers overrun their limits, and an event loop must not wait for them.

The child stays for the next solve. Requests and answers are pickled frames with their length before them; see
`process.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
import sys
from collections.abc import Sequence

import structlog

from airavata_scheduler.adapters.solver.process import BACKGROUND
from airavata_scheduler.scheduler_core import Limits, Plan, PlannerError, Point, Snapshot

_LOG = structlog.get_logger(__name__)
_LENGTH = struct.Struct("<Q")
#: The child's start (imports of the solver) counts against the first solve only.
_START_LIMIT_S = 30.0
_GRACE_FACTOR = 3.0
_GRACE_S = 0.5
#: A frontier is some dozens of plans.
_FRONTIER_LIMIT_S = 60.0
_PROGRAM = (sys.executable, "-m", "airavata_scheduler.adapters.solver.process")


class ChildSolver:
    """`Solver` with one child; solves come one after the other. ``program`` is the child's command line.

    In the ``background`` it leaves the processor to others.
    """

    def __init__(self, program: Sequence[str] = _PROGRAM, *, background: bool = False) -> None:
        self._program = (*program, BACKGROUND) if background else program
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._warm = False

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        """None when the child overran the limit and its grace, or died; the next solve gets a new child."""
        limit_s = limits.time_s * _GRACE_FACTOR + _GRACE_S
        answer = await self._within(limit_s, ("plan", snapshot, now, limits))
        return answer if isinstance(answer, Plan) else None

    async def frontier(
        self, snapshot: Snapshot, now: float, experiment: str, points: int, limits: Limits
    ) -> tuple[Point, ...] | None:
        """As `solve`, with a minute instead of the limit."""
        answer = await self._within(_FRONTIER_LIMIT_S, ("frontier", snapshot, now, experiment, points, limits))
        return answer if isinstance(answer, tuple) else None

    async def _within(self, limit_s: float, request: tuple[object, ...]) -> object:
        async with self._turn:
            limit_s += 0.0 if self._warm else _START_LIMIT_S
            try:
                async with asyncio.timeout(limit_s):
                    failed, answer = await self._ask(request)
            except (TimeoutError, EOFError, OSError) as error:
                _LOG.warning("a solve was given up", after_s=limit_s, error=repr(error))
                await self.close()
                return None
            except BaseException:
                # Half an answer may be in the pipe.
                await self.close()
                raise
        if failed:
            raise answer if isinstance(answer, PlannerError) else PlannerError(answer)
        return answer

    async def _ask(self, request: tuple[object, ...]) -> tuple[bool, object]:
        child = self._child or await self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        frame = pickle.dumps(request, protocol=5)
        child.stdin.write(_LENGTH.pack(len(frame)) + frame)
        await child.stdin.drain()
        (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
        failed, answer = pickle.loads(await child.stdout.readexactly(length))  # noqa: S301 - our own child
        self._warm = True
        return failed, answer

    async def _start(self) -> asyncio.subprocess.Process:
        self._child = await asyncio.create_subprocess_exec(
            *self._program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        return self._child

    async def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._child = self._child, None
        self._warm = False
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
