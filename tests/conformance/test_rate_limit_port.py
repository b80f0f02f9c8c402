"""Both rate limits count uses by rule and key, and say how long to wait."""

from __future__ import annotations

import time

import pytest

from airavata_scheduler.adapters.memory.rate_limit import MemoryRateLimit
from airavata_scheduler.adapters.rate_limit.limits_adapter import LimitsRateLimit
from airavata_scheduler.platform.ports.rate_limit import RateLimit


class Now:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None: ...


@pytest.fixture(params=["memory", "limits"])
def limit(request: pytest.FixtureRequest) -> RateLimit:
    if request.param == "memory":
        return MemoryRateLimit(Now(), {"login": (2, 60.0)})
    return LimitsRateLimit({"login": "2/minute"})


async def test_a_key_is_stopped_and_others_are_not(limit: RateLimit) -> None:
    assert [await limit.hit("login", "a") for _ in range(2)] == [0.0, 0.0]
    wait_s = await limit.hit("login", "a")
    assert 0 < wait_s <= 61
    assert await limit.hit("login", "b") == 0.0
