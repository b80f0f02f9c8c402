"""The clean-up after deletions, which neither a slow disk nor the death of who does it leaves undone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from service_bench import Bench

from airavata_scheduler.adapters.memory.storage import MemoryStorage
from airavata_scheduler.adapters.storage import posix
from airavata_scheduler.adapters.storage.posix import PosixStorage
from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.services import data
from airavata_scheduler.platform.services.data import DataMoverService
from airavata_scheduler.platform.services.orchestrator import ExperimentOrchestratorService


class Away:
    """A mover that does not answer."""

    async def remove_experiment(self, _: str) -> None:
        raise UnavailableError("it is being started again")


async def deleted_while_the_mover_was_away() -> tuple[Bench, MemoryStorage]:
    bench, storage, nothing = await Bench().open(), MemoryStorage(), Any
    for name in ("gone", "kept"):
        await bench.submit(name, 1)
        await bench.experiments.cancel(name, "enough")
        await storage.write(f"{name}/t/0/1/out", b"1")
    behind: Any = Away()
    await ExperimentOrchestratorService(
        bench.experiments, bench.tasks, nothing, behind, nothing, nothing, bench.clock,
        notify_canceled=nothing, previewer=nothing,
    ).delete("admin", "gone")  # fmt: skip
    return bench, storage


async def test_a_deletion_is_done_without_the_mover_which_removes_the_files_later() -> None:
    bench, storage = await deleted_while_the_mover_was_away()
    assert "gone" not in bench.database.experiments
    queries: Any = None
    mover = DataMoverService(bench.tasks, bench.experiments, queries, storage, bench.clock)
    sweeping = asyncio.create_task(mover.run())
    await asyncio.sleep(0.01)
    sweeping.cancel()
    with suppress(asyncio.CancelledError):
        await sweeping
    assert list(storage.objects) == ["kept/t/0/1/out"]


async def test_a_manifest_that_fails_or_takes_long_holds_up_no_other_gate_and_no_progress() -> None:
    opened: list[int] = []
    asked: list[int] = []
    looks = 0
    enough = asyncio.Event()

    class Store:
        async def due_manifests(self) -> list[int]:
            return [step_id for step_id in (1, 2, 3) if step_id not in opened]

        async def open_gate(self, _: Any, step_id: int) -> None:
            opened.append(step_id)

        async def announce_progress(self, *_: Any) -> dict[str, int]:
            nonlocal looks
            looks += 1
            if looks == 3:
                enough.set()
            return {"e": looks}

    class Mover(Away):
        async def write_manifest(self, step_id: int) -> None:
            asked.append(step_id)
            if step_id == 1:
                raise UnavailableError("it is away")
            if step_id == 2:
                await asyncio.Event().wait()

    nothing, store, mover = Any, Store(), Mover()
    behind: Any = (store, mover)
    service = ExperimentOrchestratorService(
        behind[0], nothing, nothing, behind[1], nothing, nothing, nothing, notify_canceled=nothing, previewer=nothing
    )
    working = asyncio.create_task(service.run())
    async with asyncio.timeout(10):
        await enough.wait()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    assert opened == [3]
    assert asked.count(1) > 1, "what failed is tried again"
    assert asked.count(2) == 1, "what is under way is not begun anew"


async def test_who_deletes_very_much_does_not_wait_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    room = asyncio.Event()

    class Slow(MemoryStorage):
        async def delete_tree(self, prefix: str) -> int:
            await room.wait()
            return await super().delete_tree(prefix)

    monkeypatch.setattr(data, "_REMOVAL_ANSWER_S", 0.01)
    storage, nothing = Slow(), Any
    await storage.write("e/t/0/1/out", b"1")
    mover = DataMoverService(nothing, nothing, nothing, storage, nothing)
    await mover.remove_experiment("e")
    assert storage.objects
    room.set()
    await asyncio.sleep(0.01)
    assert not storage.objects


async def test_a_removal_takes_along_what_an_interrupted_one_left(tmp_path: Path) -> None:
    left = tmp_path / f"{posix._ASIDE}0123"
    (left / "t").mkdir(parents=True)
    (left / "t" / "out").write_text("1")
    storage = PosixStorage(tmp_path)
    await storage.write("e/out", b"1")
    assert await storage.delete_tree("e") == 1
    assert [found.key async for found in storage.list("")] == []


async def test_removals_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    storage = PosixStorage(tmp_path)
    for name in "abcd":
        for index in range(60):
            await storage.write(f"{name}/t/{index}/1/out", b"1")
    assert await asyncio.gather(*(storage.delete_tree(name) for name in "abcd")) == [60] * 4
    assert [found.key async for found in storage.list("")] == []
