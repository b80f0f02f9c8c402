"""An agent at work in a directory, on a platform in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from airavata_scheduler.adapters.memory.worker_channel import MemoryWorkerChannel
from airavata_scheduler.platform.domain.messages import Extent, Hello, Program, Report, StorageLocation
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.worker.agent import Agent
from airavata_scheduler.worker.sandbox import Sandbox
from airavata_scheduler.worker.strays import marked

MODES = [None, Sandbox("plain", ("/usr/bin/setpriv", "--pdeathsig", "KILL"))]
PATIENCE_S = 60.0


class Place:
    """An agent at work, and its platform."""

    def __init__(self, path: Path, channel: MemoryWorkerChannel, agent: Agent) -> None:
        self.root = path / "storage"
        self.scratch = path / "scratch"
        self.channel = channel
        self.agent = agent
        self._steps = iter(range(1, 1000))

    def program(self, text: str = "", **fields: Any) -> Program:
        step_id = next(self._steps)
        script = {} if fields.get("command") or fields.get("python") else {"script": text}
        fields = {"request": Capacity(), "grace_s": 0.3, "output_prefix": f"e/s{step_id}", **script, **fields}
        return Program(step_id, "e", "s", **fields)

    async def run(self, text: str = "", parameters: dict[str, Any] | None = None, **fields: Any) -> Report:
        identities = await self.channel.submit(self.program(text, **fields), [parameters or {}])
        async with asyncio.timeout(PATIENCE_S):
            return (await self.channel.wait(identities))[0]

    def text(self, extent: Extent | None) -> str:
        assert extent is not None
        data = (self.root / extent.segment).read_bytes()
        return data[extent.offset : extent.offset + extent.length].decode()

    def task_processes(self) -> list[int]:
        token = (self.scratch / "token").read_text()
        return marked(f"AIRAVATA_AGENT={token}.")


@asynccontextmanager
async def place_at(path: Path, channel: MemoryWorkerChannel | None = None, **options: Any) -> AsyncIterator[Place]:
    (path / "storage").mkdir(exist_ok=True)
    capacity = options.pop("capacity", Capacity(cpu=2, memory_bytes=8 << 30))
    channel = channel or MemoryWorkerChannel(locations(path))
    agent = Agent(channel, Hello("w", "r", "h", "n", os.getpid(), "0", capacity), path / "scratch", **options)
    running = asyncio.create_task(agent.run())
    place = Place(path, channel, agent)
    try:
        yield place
    finally:
        agent.stop()
        async with asyncio.timeout(PATIENCE_S):
            await running
    assert place.task_processes() == []


def locations(path: Path) -> list[StorageLocation]:
    return [StorageLocation("default", "posix", str(path / "storage"))]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (what it looks at has no event)
            await asyncio.sleep(0.01)
