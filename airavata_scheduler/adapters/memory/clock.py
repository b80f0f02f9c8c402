"""A clock that only goes on when everything waits: an hour of timeouts takes a moment, and the same way each time.

>>> loop = VirtualLoop()
>>> asyncio.set_event_loop(loop)
>>> loop.run_until_complete(asyncio.sleep(3600))
>>> VirtualClock(loop).time()
3600.0
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple, Unpack

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class _Jump(selectors.DefaultSelector):
    """Waits for nothing: where a selector would wait, time is moved on instead."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            message = "everything waits for something that never happens"
            raise RuntimeError(message)
        if timeout > 0:
            self._advance(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a number. It has no threads: calls for one run at once, where they stand."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._virtual_s = start_s
        super().__init__(_Jump(self._pass))

    def _pass(self, delay_s: float) -> None:
        self._virtual_s += delay_s

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """The result of the call, as a future that is done."""
        del executor
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits it
            future.set_exception(error)
        return future


class VirtualClock:
    """`Clock` of a loop. ``advance`` moves its wall clock alone, as an administrator would."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch_s: float = 0.0) -> None:
        self._loop = loop
        self._epoch_s = epoch_s

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._epoch_s + self._loop.time()

    def monotonic(self) -> float:
        """Seconds of the loop."""
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(delay_s)

    def advance(self, delay_s: float) -> None:
        """Jump; may be negative."""
        self._epoch_s += delay_s
