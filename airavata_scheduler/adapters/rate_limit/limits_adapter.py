"""Rate limits with the `limits` library, counted in the memory of this process."""

from __future__ import annotations

import time
from collections.abc import Mapping

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

#: Per user name and address, and per address: whoever guesses is slowed down, whoever mistypes is not.
DEFAULT_RULES = {"login": "10/minute", "login_address": "60/minute", "refresh": "60/minute"}


class LimitsRateLimit:
    """``rules``: name -> limit as `limits` writes it, such as ``10/minute``. A moving window."""

    def __init__(self, rules: Mapping[str, str] | None = None) -> None:
        self._rules: dict[str, RateLimitItem] = {name: parse(rule) for name, rule in (rules or DEFAULT_RULES).items()}
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def hit(self, rule: str, key: str) -> float:
        """Count one use. 0.0 if it is allowed, else the seconds until it is. KeyError for an unknown rule."""
        item = self._rules[rule]
        if await self._limiter.hit(item, rule, key):
            return 0.0
        window = await self._limiter.get_window_stats(item, rule, key)
        return max(window.reset_time - time.time(), 0.1)
