"""How long to wait before something that died is started again."""

from __future__ import annotations

import time
from collections.abc import Callable

_FIRST_S = 0.25
_LONGEST_S = 15.0
_STABLE_S = 60.0


class Backoff:
    """At once the first time, then 0.25 s, doubled each time up to 15 s; forgotten after a minute without a failure."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._last_s = float("-inf")
        self._next_s = float("-inf")

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def ready(self) -> bool:
        """Whether it may be started now."""
        return self._clock() >= self._next_s

    def failed(self) -> None:
        """Notes a death or a start that did not work."""
        now = self._clock()
        if now - self._last_s > _STABLE_S:
            self._failures = 0
        delay_s = min(_LONGEST_S, _FIRST_S * 2 ** (self._failures - 1)) if self._failures else 0.0
        self._failures += 1
        self._last_s, self._next_s = now, now + delay_s
