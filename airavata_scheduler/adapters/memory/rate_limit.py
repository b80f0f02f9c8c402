"""A rate limit on a clock that a test can turn."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping

from airavata_scheduler.platform.ports.clock import Clock


class MemoryRateLimit:
    """``rules``: name -> (uses, seconds). Rules that are not named allow everything."""

    def __init__(self, clock: Clock, rules: Mapping[str, tuple[int, float]] | None = None) -> None:
        self._clock = clock
        self._rules = dict(rules or {})
        self._uses: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    async def hit(self, rule: str, key: str) -> float:
        """Count one use. 0.0 if it is allowed, else the seconds until it is."""
        if rule not in self._rules:
            return 0.0
        most, window_s = self._rules[rule]
        now, uses = self._clock.monotonic(), self._uses[rule, key]
        while uses and uses[0] <= now - window_s:
            uses.popleft()
        if len(uses) >= most:
            return uses[0] + window_s - now
        uses.append(now)
        return 0.0
