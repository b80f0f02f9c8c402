"""The real clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """`Clock` of this machine and event loop."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait without blocking the loop."""
        await asyncio.sleep(delay_s)
