"""The reaper with each store behind it: whom it gives up, and whom it must not, whatever clocks and database do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airavata_scheduler.platform.domain.errors import LeaseLostError, UnavailableError
from airavata_scheduler.platform.domain.messages import Directives, Hello, WorkerGoneError
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.services.workers import WorkerLifecycleService

if TYPE_CHECKING:
    from conftest import World

LEASE_S, OUTAGE_S = 30.0, 60.0


class Clock:
    """The reaper's own, which nobody sets."""

    now_s = 0.0

    def time(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None: ...


class Away:
    """A store that may be away."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise UnavailableError("away")
        return getattr(self._store, name)


class Reaper:
    """The service with one worker, which was there before."""

    async def open(self, world: World) -> Reaper:
        self.world = world
        self.clock = Clock()
        self.store = Away(world.workers)
        fence = await world.leases.take("worker-lifecycle", "test", 10)
        self.service = WorkerLifecycleService(
            self.store, world.experiments, None, fence, self.clock,  # type: ignore[arg-type]  # nobody asks it
            lease_s=LEASE_S, heartbeat_s=3.0, outage_s=OUTAGE_S,
        )  # fmt: skip
        await self.service.reap()
        return self

    async def pass_time(self, for_s: float) -> None:
        """For the database's clock and for the reaper's."""
        self.clock.now_s += for_s
        await self.world.move_clock(for_s)

    async def look_for(self, for_s: float) -> None:
        """Look as often as it does, while the worker is silent."""
        for _ in range(int(for_s / 10)):
            await self.pass_time(10)
            await self.service.reap()

    async def heartbeat(self) -> Directives:
        return await self.service.heartbeat(self.world.worker, Capacity(cpu=1), 0, 0.0)


@pytest.fixture
async def reaper(world: World) -> Reaper:
    return await Reaper().open(world)


async def test_a_silent_worker_is_given_up_and_told_so(reaper: Reaper) -> None:
    await reaper.look_for(30)
    assert (await reaper.heartbeat()).lease_s == LEASE_S
    await reaper.look_for(40)
    with pytest.raises(WorkerGoneError):
        await reaper.heartbeat()


@pytest.mark.parametrize("by_s", [3600.0, -3600.0])
async def test_a_clock_that_is_set_costs_nobody_a_lease_and_saves_nobody_for_long(reaper: Reaper, by_s: float) -> None:
    await reaper.world.move_clock(by_s)
    await reaper.service.reap()
    assert (await reaper.heartbeat()).lease_s == LEASE_S
    await reaper.world.move_clock(by_s)
    await reaper.look_for(50)
    with pytest.raises(WorkerGoneError):
        await reaper.heartbeat()


async def test_a_promise_made_while_the_database_is_away_is_kept(reaper: Reaper) -> None:
    await reaper.look_for(20)
    reaper.store.away = True
    await reaper.pass_time(15)
    assert (await reaper.heartbeat()).lease_s == LEASE_S
    reaper.store.away = False
    await reaper.service.reap()
    await reaper.look_for(20)
    assert (await reaper.heartbeat()).lease_s == LEASE_S


async def test_a_promise_to_one_worker_saves_no_other(reaper: Reaper) -> None:
    """Or one slow heartbeat now and then would keep the dead alive."""
    talking = await reaper.world.workers.register_worker(
        Hello("talking", "local", "h", "n", 1, "0", Capacity(1)), LEASE_S
    )
    for _ in range(5):
        reaper.store.away = True
        assert (await reaper.service.heartbeat(talking, Capacity(cpu=1), 0, 0.0)).lease_s == LEASE_S
        reaper.store.away = False
        await reaper.look_for(10)
    assert [worker.id for worker in (await reaper.world.tasks.planning_state()).workers] == [talking]


async def test_an_outage_that_only_the_reaper_saw_costs_nobody_a_lease(reaper: Reaper) -> None:
    await reaper.look_for(20)
    reaper.store.away = True
    await reaper.pass_time(9)
    with pytest.raises(UnavailableError):
        await reaper.service.reap()
    reaper.store.away = False
    await reaper.pass_time(6)
    await reaper.service.reap()
    assert (await reaper.heartbeat()).lease_s == LEASE_S


async def test_promises_end(reaper: Reaper) -> None:
    reaper.store.away = True
    assert (await reaper.heartbeat()).lease_s == LEASE_S
    await reaper.pass_time(OUTAGE_S - 1)
    assert (await reaper.heartbeat()).lease_s == LEASE_S
    await reaper.pass_time(2)
    with pytest.raises(UnavailableError, match="60 s"):
        await reaper.heartbeat()


async def test_a_reaper_that_was_replaced_gives_up_nobody(reaper: Reaper) -> None:
    successor = await Reaper().open(reaper.world)
    await reaper.pass_time(60)
    with pytest.raises(LeaseLostError):
        await reaper.service.reap()
    assert (await successor.heartbeat()).lease_s == LEASE_S
