"""Solves in a child process that can be killed: solvers overrun their limits, and an event loop must not wait for them.

The child stays for the next solve. Requests and answers are pickled frames with their length before them.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
import sys

import structlog

from airavata_scheduler.scheduler_core import Limits, Plan, Snapshot

_LOG = structlog.get_logger(__name__)
_LENGTH = struct.Struct("<Q")
#: The child's start (imports of the solver) counts against the first solve only.
_START_LIMIT_S = 30.0
_GRACE_FACTOR = 3.0
_GRACE_S = 0.5


class ChildSolver:
    """`Solver` with one child; solves come one after the other."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._warm = False

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        """None when the child overran the limit and its grace, or died; the next solve gets a new child."""
        async with self._turn:
            limit_s = limits.time_s * _GRACE_FACTOR + _GRACE_S + (0.0 if self._warm else _START_LIMIT_S)
            try:
                async with asyncio.timeout(limit_s):
                    return await self._ask(snapshot, now, limits)
            except (TimeoutError, EOFError, OSError) as error:
                _LOG.warning("a solve was given up", after_s=limit_s, error=repr(error))
                await self.close()
                return None
            except BaseException:
                # Half an answer may be in the pipe.
                await self.close()
                raise

    async def _ask(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        child = self._child or await self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        request = pickle.dumps((snapshot, now, limits), protocol=5)
        child.stdin.write(_LENGTH.pack(len(request)) + request)
        await child.stdin.drain()
        (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
        answer = pickle.loads(await child.stdout.readexactly(length))  # noqa: S301 - our own child
        self._warm = True
        if isinstance(answer, Plan):
            return answer
        _LOG.error("the planner failed", error=answer)
        return None

    async def _start(self) -> asyncio.subprocess.Process:
        self._warm = False
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "airavata_scheduler.adapters.solver.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self._child

    async def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
