"""What tasks do that they should not: the slot comes back, the cause is named, nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_place import MODES, PATIENCE_S, Place, eventually, place_at

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.worker import cgroups
from airavata_scheduler.worker.sandbox import Sandbox


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; "])
async def test_a_timeout_ends_also_who_ignores_it(place: Place, stubborn: str) -> None:
    report = await place.run(f"{stubborn}sleep 1000 & while :; do sleep 0.05; done", timeout_s=0.2)
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.TIMEOUT)
    assert place.task_processes() == []


@pytest.mark.parametrize("fork", ["sleep 1000 &", "setsid sleep 1000 &", "setsid sh -c 'sleep 1000 & sleep 1001' &"])
async def test_children_do_not_outlive_a_task(place: Place, fork: str) -> None:
    report = await place.run(f"{fork}\nexec >&- 2>&-; exit 0")
    assert report.state is TaskState.SUCCEEDED
    assert place.task_processes() == []


async def test_strays_of_one_task_are_ended_and_those_of_its_neighbour_are_not(tmp_path: Path) -> None:
    async with place_at(tmp_path, capacity=Capacity(cpu=2)) as place:
        share = Capacity(cpu=0.25)
        long = place.program("setsid sleep 1000 & echo ready; wait", request=share)
        neighbours = await place.channel.submit(long, [{}] * 4)
        for identity in neighbours:
            await place.channel.wait_running(identity)
        before = set(place.task_processes())
        assert (await place.run("setsid sleep 1000 &", request=share)).state is TaskState.SUCCEEDED
        assert set(place.task_processes()) == before
        await place.channel.direct(cancel_steps=(long.step_id,))
        assert {report.state for report in await place.channel.wait(neighbours)} == {TaskState.CANCELED}


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


async def test_a_stray_without_our_mark_is_ended_once_it_is_older_than_all_that_runs(tmp_path: Path) -> None:
    seconds = f"{1000 + os.getpid()}.5"

    def hidden() -> list[Path]:
        return [path for path in Path("/proc").glob("[0-9]*") if _command(path) == f"sleep\0{seconds}\0"]

    async with place_at(tmp_path, capacity=Capacity(cpu=2)) as place:
        share = Capacity(cpu=0.25)
        text = f"env -i setsid sleep {seconds} & while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
        first = await place.channel.submit(place.program(text, request=share), [{}])
        await eventually(lambda: len(hidden()) == 1)
        await asyncio.sleep(0.02)  # starts are known to a hundredth of a second
        long = place.program("sleep 1000", request=share)
        neighbours = await place.channel.submit(long, [{}] * 4)
        for identity in neighbours:
            await place.channel.wait_running(identity)
        (tmp_path / "go").touch()
        assert [report.state for report in await place.channel.wait(first)] == [TaskState.SUCCEEDED]
        await eventually(lambda: hidden() == [])
        await place.channel.direct(cancel_steps=(long.step_id,))
        assert {report.state for report in await place.channel.wait(neighbours)} == {TaskState.CANCELED}


async def test_much_output_is_capped_with_a_notice(place: Place) -> None:
    report = await place.run("head -c 200000000 /dev/zero | tr '\\0' x", max_output_bytes=100_000)
    assert report.state is TaskState.SUCCEEDED
    assert report.stdout is not None
    assert report.stdout.truncated
    assert report.stdout.length < 101_000
    text = place.text(report.stdout)
    assert text.startswith("x" * 100_000)
    assert "max_output_bytes = 100000" in text
    follower = await place.run("echo next")
    assert place.text(follower.stdout) == "next\n"


async def test_a_deep_tree_is_no_reason_to_take_no_more_tasks(place: Place) -> None:
    deep = "i=0; while [ $i -lt 1200 ]; do mkdir d; cd d || exit 1; i=$((i+1)); done"
    spawners = place.agent.spawner_pids()
    assert (await place.run(deep)).state is TaskState.SUCCEEDED
    assert (await place.run("ls -A | wc -l", results={"n": ("stdout", "")})).results == {"n": 0}
    assert place.agent.spawner_pids() == spawners


async def test_memory_limit(place: Place) -> None:
    code = "import time; held = bytearray(600 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep(0.01)"
    report = await place.run(command=("python3", "-c", code), request=Capacity(memory_bytes=200 << 20))
    assert report.state is TaskState.FAILED
    assert report.cause in (Cause.OUT_OF_MEMORY, Cause.EXIT_CODE)
    facts = place.channel.hellos[0].facts
    if "memory" in facts["cgroups"]:
        assert report.cause is Cause.OUT_OF_MEMORY
        assert "resources.memory" in report.message


@asynccontextmanager
async def small_disk(path: Path, size: str) -> AsyncIterator[Path]:
    """A file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    path.mkdir()  # noqa: ASYNC240 - a moment
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    if await mount.wait():
        pytest.skip("a file system cannot be mounted here")
    try:
        yield path
    finally:
        await (await asyncio.create_subprocess_exec("umount", "--lazy", str(path))).wait()


@pytest.mark.parametrize("place_name", ["storage", "scratch"])
async def test_a_full_disk_is_named_and_survived(tmp_path: Path, place_name: str) -> None:
    async with small_disk(tmp_path / place_name, "3m") as small, place_at(tmp_path) as place:
        fields: dict[str, Any] = {"outputs": {"BIG": "big"}}
        report = await place.run('head -c 4000000 /dev/zero > "$BIG"', **fields)
        assert (report.state, report.cause) == (TaskState.FAILED, Cause.INFRASTRUCTURE)
        assert "disk full" in report.message
        assert str(small) in report.message
        assert (await place.run('echo small > "$BIG"', **fields)).state is TaskState.SUCCEEDED


async def test_a_sweep_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "storage", "4m") as small, place_at(tmp_path) as place:

        async def sweep(n: int) -> list[Report]:
            program = place.program('echo out; echo "$X" > "$OUT"', outputs={"OUT": "out"})
            identities = await place.channel.submit(program, [{"X": x} for x in range(n)])
            async with asyncio.timeout(PATIENCE_S):
                return await place.channel.wait(identities)

        assert {report.state for report in await sweep(20)} == {TaskState.SUCCEEDED}
        filling = small / "filling"
        with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        full = await sweep(4)
        assert {(report.state, report.cause) for report in full} == {(TaskState.FAILED, Cause.INFRASTRUCTURE)}
        assert all(f"disk full: {small}" in report.message for report in full)
        filling.unlink()
        assert {report.state for report in await sweep(20)} == {TaskState.SUCCEEDED}


async def test_ten_gigabytes_of_output_do_not_fill_the_disk(tmp_path: Path) -> None:
    async with small_disk(tmp_path / "storage", "4g"), place_at(tmp_path) as place:
        report = await place.run("head -c 10G /dev/zero", max_output_bytes=1_000_000)
        assert report.state is TaskState.SUCCEEDED, report.message
        assert report.stdout is not None
        assert report.stdout.truncated
        assert report.stdout.length < 1_001_000
        assert place.text((await place.run("echo next")).stdout) == "next\n"


LEAK = """
held = []
while True:
    held.append(bytearray(8 << 20))
    held[-1][::4096] = b"x" * len(held[-1][::4096])
"""
FORKS = """
import os, time
born = 0
while born < 2000:
    try:
        pid = os.fork()
    except OSError:
        break
    if not pid:
        os.setsid()
        time.sleep(1000)
    born += 1
print(born)
"""


async def test_a_task_that_leaks_is_ended_and_its_cause_named(place: Place) -> None:
    report = await place.run(command=("python3", "-c", LEAK), request=Capacity(memory_bytes=150 << 20))
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.OUT_OF_MEMORY)
    assert "resources.memory" in report.message
    assert (await place.run("exit 0")).state is TaskState.SUCCEEDED


@pytest.mark.parametrize("mode", MODES, ids=["namespace", "plain"])
async def test_a_task_that_forks_without_end_finds_an_end(
    tmp_path: Path, mode: Sandbox | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "MOST_PIDS", 200)
    async with place_at(tmp_path, sandbox=mode) as place:
        await place.run("exit 0")
        if "pids" not in place.channel.hellos[0].facts["cgroups"]:
            pytest.skip("no group of processes may be made here")
        report = await place.run(command=("python3", "-c", FORKS))
        assert report.state is TaskState.SUCCEEDED
        assert 50 < int(place.text(report.stdout)) < 200
        assert place.task_processes() == []
        assert (await place.run("exit 0")).state is TaskState.SUCCEEDED


async def test_a_task_that_closes_its_output_still_ends_with_its_code(place: Place) -> None:
    report = await place.run("echo said; exec <&- >&- 2>&-; sleep 0.2; exit 3")
    assert (report.cause, report.exit_code) == (Cause.EXIT_CODE, 3)
    assert place.text(report.stdout) == "said\n"


@pytest.mark.parametrize("make", ['mkfifo "$OUT"', 'ln -s /dev/zero "$OUT"'], ids=["pipe", "device"])
async def test_an_output_that_has_no_end_is_refused_and_the_next_task_runs(place: Place, make: str) -> None:
    outputs = {"OUT": "out.json"}
    report = await place.run(make, outputs=outputs, results={"x": ("OUT", "")})
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.MISSING_OUTPUT)
    assert "OUT = out.json is neither a file nor a directory" in report.message
    assert (await place.run('echo 1 > "$OUT"', outputs=outputs)).state is TaskState.SUCCEEDED


async def test_a_pipe_inside_a_directory_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with place_at(tmp_path, fsync=True) as place:
        report = await place.run('mkdir "$D"; mkfifo "$D/pipe"; echo 1 > "$D/file"', outputs={"D": "d"})
        assert report.state is TaskState.SUCCEEDED, report.message
