"""The worker alone: real processes through agent and spawners, against bare posix_spawn and wait4, in turns.

python -m benchmarks.worker --tasks 3000 --slots 2 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from airavata_scheduler.adapters.memory.worker_channel import MemoryWorkerChannel
from airavata_scheduler.platform.domain.messages import Hello, Program, StorageLocation
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.worker.agent import Agent
from benchmarks.bare import bare_rate


async def agent_rate(tasks: int, rounds: int, slots: int, path: str) -> list[dict[str, float]]:
    """Rates of ``rounds`` runs through one agent, each followed by a bare one."""
    directory = Path(tempfile.mkdtemp(prefix="airavata-bench-"))
    (directory / "storage").mkdir()
    channel = MemoryWorkerChannel([StorageLocation("default", "posix", str(directory / "storage"))])
    hello = Hello("bench", "local", "localhost", "node", os.getpid(), "0", Capacity(cpu=slots))
    agent = Agent(channel, hello, directory / "scratch")
    running = asyncio.create_task(agent.run())
    measured = []
    for step_id in range(rounds + 1):
        program = Program(step_id, "bench", "true", Capacity(), command=(path,))
        started, cpu_s = time.monotonic(), time.process_time()
        await channel.wait(await channel.submit(program, [{"X": index} for index in range(tasks)]))
        rate = tasks / (time.monotonic() - started)
        own_us = (time.process_time() - cpu_s) / tasks * 1e6
        if step_id:  # the first run warms up
            bare = await asyncio.to_thread(bare_rate, tasks, slots, path)
            measured.append({"tasks_per_s": rate, "spawn_per_s": bare, "ratio": rate / bare, "agent_us": own_us})
    agent.drain()
    await running
    shutil.rmtree(directory)
    return measured


def main() -> None:
    """Print one JSON line for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default="/bin/true")
    options = parser.parse_args()
    for line in asyncio.run(agent_rate(options.tasks, options.rounds, options.slots, options.program)):
        print(json.dumps({name: round(value, 3) for name, value in line.items()}))


if __name__ == "__main__":
    main()
