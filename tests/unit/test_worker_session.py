"""The end of a registration."""

from __future__ import annotations

import asyncio

import pytest

from airavata_scheduler.worker import session


async def test_a_loop_that_loses_a_cancellation_is_canceled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CANCEL_AGAIN_S", 0.001)
    lost = []

    async def deaf_once() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append(1)
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(deaf_once()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await session._end_all(tasks)
    assert lost == [1]
    assert all(task.cancelled() for task in tasks)
