from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airavata_scheduler.worker import leftovers
from airavata_scheduler.worker.abandoned_groups import remove_groups
from airavata_scheduler.worker.leftovers import Scratch
from airavata_scheduler.worker.strays import marked

PATIENCE_S = 30.0

#: An agent in a process of its own, with a platform in memory whose lease is short; says when its tasks run.
AGENT = """
import asyncio, os, sys
from pathlib import Path
from airavata_scheduler.adapters.memory.worker_channel import MemoryWorkerChannel
from airavata_scheduler.platform.domain.messages import Hello, Program, StorageLocation
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.worker.agent import Agent
from airavata_scheduler.worker.sandbox import Sandbox

async def main():
    path = Path(sys.argv[1])
    (path / "storage").mkdir(exist_ok=True)
    channel = MemoryWorkerChannel([StorageLocation("default", "posix", str(path / "storage"))], 1.0, 0.2)
    hello = Hello("w", "r", "h", "n", os.getpid(), "0", Capacity(cpu=2))
    sandbox = Sandbox("plain", ("/usr/bin/setpriv", "--pdeathsig", "KILL")) if sys.argv[2] == "plain" else None
    agent = Agent(channel, hello, path / "scratch", sandbox=sandbox)
    running = asyncio.create_task(agent.run())
    program = Program(1, "e", "s", Capacity(), script="trap '' TERM; setsid sleep 1000 & sleep 1000")
    attempt = 1
    await channel.submit(program, [{}, {}])
    while True:
        for index in (0, 1):
            await channel.wait_running((1, index, attempt))
        print("running", flush=True)
        attempt += 1

asyncio.run(main())
"""


@contextmanager
def agent_process(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", AGENT, str(path), mode], stdout=subprocess.PIPE, text=True)
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()
        end_leftovers(path)


def end_leftovers(path: Path) -> None:
    """As the next agent in the same directory would; nothing of a test outlives it."""
    scratch = Scratch(path / "scratch")
    scratch.end_leftovers()
    remove_groups([scratch.worker])
    scratch.release()


def wait_running(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"


def tasks_of(path: Path) -> list[int]:
    return marked(f"AIRAVATA_AGENT={(path / 'scratch' / 'token').read_text()}.")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_survives_an_agent_that_is_killed(tmp_path: Path) -> None:
    with agent_process(tmp_path, "namespace") as process:
        wait_running(process)
        assert len(tasks_of(tmp_path)) >= 4
        process.kill()
        eventually(lambda: tasks_of(tmp_path) == [])


def test_the_next_agent_ends_what_an_earlier_one_left(tmp_path: Path) -> None:
    left = tmp_path / "scratch"
    scratch = Scratch(left)
    mark = scratch.mark("0")
    scratch.collects_in([str(tmp_path / "storage"), str(tmp_path / "never-used")], 7)
    scratch.release()
    (tmp_path / "storage/.incoming/7/1.2.3").mkdir(parents=True)
    (tmp_path / "storage/.incoming/8/1.2.3").mkdir(parents=True)
    (left / "spawner-0.1.1").mkdir()
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **mark}, start_new_session=True) as stray:
        following = Scratch(left)
        try:
            assert following.end_leftovers() == 1
            assert stray.wait() == -signal.SIGKILL
            assert sorted(entry.name for entry in left.iterdir()) == ["agent.lock", "incoming", "token"]
            others = [entry.name for entry in (tmp_path / "storage/.incoming").iterdir()]
            assert others == ["8"], "what somebody else collects is not ours to remove"
            (left / "incoming").write_text(str(tmp_path / "storage"))
            following.end_leftovers()
            assert (tmp_path / "storage").exists(), "only places of the kind are removed, whatever a note says"
        finally:
            stray.kill()
            following.release()


def test_a_killed_agent_without_namespaces_leaves_nothing_that_its_successor_does_not_end(tmp_path: Path) -> None:
    with agent_process(tmp_path, "plain") as process:
        wait_running(process)
        process.kill()
        process.wait()
        assert tasks_of(tmp_path)
        end_leftovers(tmp_path)
        assert tasks_of(tmp_path) == []


@pytest.mark.parametrize("mode", ["namespace", "plain"])
def test_an_agent_that_slept_through_its_lease_starts_anew(tmp_path: Path, mode: str) -> None:
    with agent_process(tmp_path, mode) as process:
        wait_running(process)
        before = set(tasks_of(tmp_path))
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # longer than the lease
        process.send_signal(signal.SIGCONT)
        wait_running(process)
        assert not before & set(tasks_of(tmp_path))


async def test_two_agents_cannot_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_PATIENCE_S", 0.1)
    first = Scratch(tmp_path)
    try:
        with pytest.raises(leftovers.ScratchBusyError, match=str(tmp_path)):
            await asyncio.to_thread(Scratch, tmp_path)
    finally:
        first.release()
