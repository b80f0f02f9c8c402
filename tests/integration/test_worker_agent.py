from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_place import PATIENCE_S, Place, eventually, locations, place_at

from airavata_scheduler.adapters.memory.worker_channel import MemoryWorkerChannel
from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Batch, ChannelUnavailableError, Directives, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.worker import pool
from airavata_scheduler.worker.pool import SpawnerProcess
from airavata_scheduler.worker.sandbox import Sandbox


async def test_a_task_that_ends_well(place: Place) -> None:
    report = await place.run("echo out; echo err >&2")
    assert (report.state, report.cause, report.exit_code) == (TaskState.SUCCEEDED, None, 0)
    assert (place.text(report.stdout), place.text(report.stderr)) == ("out\n", "err\n")
    assert report.wall_s > 0
    assert report.cpu_s > 0


async def test_exit_codes_and_signals(place: Place) -> None:
    report = await place.run("exit 7")
    assert (report.state, report.cause, report.exit_code) == (TaskState.FAILED, Cause.EXIT_CODE, 7)
    report = await place.run("kill -SEGV $$")
    assert (report.cause, report.exit_code, report.signal) == (Cause.EXIT_CODE, None, signal.SIGSEGV)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"command": ("no-such-program",)}, "no-such-program"),
        ({"command": ("/proc/version",)}, "chmod"),
        ({"script": "#!/no/such/interpreter\n"}, "/no/such/interpreter"),
    ],
)
async def test_what_cannot_be_started(place: Place, fields: dict[str, Any], word: str) -> None:
    report = await place.run(**fields)
    assert report.state is TaskState.FAILED
    assert report.cause is Cause.ENVIRONMENT
    assert word in report.message


async def test_the_environment_of_a_task(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    report = await place.run(
        "env; pwd",
        {"alpha": 0.5, "flag": True, "name": "a b;$(x)", "many": [1, 2]},
        environment={"OWN": "1"},
        outputs={"RESULT": "deep/result.txt"},
        request=Capacity(cpu=0.5),
    )
    assert report.cause is Cause.MISSING_OUTPUT
    assert "deep/result.txt" in report.message
    text = place.text(report.stdout)
    lines = text.splitlines()
    assert {"alpha=0.5", "flag=true", "name=a b;$(x)", "many=[1,2]", "OWN=1", "OMP_NUM_THREADS=1"} <= set(lines)
    assert f"RESULT={lines[-1]}/deep/result.txt" in lines
    assert not [line for line in lines if line.startswith(("RAY_", "PYTEST", "CUDA_"))]


async def test_outputs_are_published_with_their_hash(place: Place) -> None:
    report = await place.run(
        'echo 42 > "$ONE"; mkdir "$TREE"; echo a > "$TREE/a"; echo \'{"x": [1, {"y": 2.5}]}\' > "$DATA"',
        outputs={"ONE": "one.txt", "TREE": "tree", "DATA": "sub/data.json"},
        results={"y": ("DATA", "/x/1/y")},
    )
    assert report.state is TaskState.SUCCEEDED, report.message
    assert report.results == {"y": 2.5}
    one = next(output for output in report.outputs if output.name == "ONE")
    assert one.sha256 == "084c799cd551dd1d8d5c5f9a5d593b2e931f5e36122ee5c793c1d08a19839cc0"
    assert (place.root / one.key).read_text() == "42\n"
    assert one.key.endswith("/0/1/one.txt")
    assert {output.name for output in report.outputs} == {"ONE", "TREE", "DATA"}


async def test_large_outputs_are_collected_aside(place: Place) -> None:
    report = await place.run('head -c 20000000 /dev/zero > "$BIG"', outputs={"BIG": "big"})
    assert report.state is TaskState.SUCCEEDED, report.message
    assert (place.root / report.outputs[0].key).stat().st_size == report.outputs[0].size_bytes == 20_000_000


async def test_a_malformed_result_says_which(place: Place) -> None:
    report = await place.run("echo nonsense", results={"score": ("stdout", "/a")})
    assert report.cause is Cause.MISSING_OUTPUT
    assert "score" in report.message
    assert "standard output" in report.message or "stdout" in report.message


async def test_results_that_nobody_can_pass_on_are_refused_and_the_next_are_taken(place: Place) -> None:
    deep = 'printf "%0100000d" 0 | tr 0 "["'
    for text in (deep, "printf '%0500d' 0 | tr 0 '['; printf '%0500d' 0 | tr 0 ']'"):
        report = await place.run(text, results={"x": ("stdout", "")})
        assert (report.state, report.cause) == (TaskState.FAILED, Cause.MISSING_OUTPUT)
        assert "result x could not be read" in report.message
    assert (await place.run("echo '[[[7]]]'", results={"x": ("stdout", "")})).results == {"x": [[[7]]]}


async def test_every_attempt_finds_an_empty_directory(place: Place) -> None:
    program = place.program("ls -A; touch left; mkdir d; ln -s / d/root")
    reports = await place.channel.wait(await place.channel.submit(program, [{}] * 20))
    assert {(report.state, report.stdout) for report in reports} == {(TaskState.SUCCEEDED, None)}


async def test_cancel_ends_what_runs_and_what_waits(place: Place) -> None:
    program = place.program("sleep 1000 & wait")
    identities = await place.channel.submit(program, [{}] * 5)
    await place.channel.wait_running(identities[0])
    await place.channel.direct(cancel_steps=(program.step_id,))
    async with asyncio.timeout(PATIENCE_S):
        reports = await place.channel.wait(identities[:2])
    assert {report.state for report in reports} == {TaskState.CANCELED}


async def test_a_killed_spawner_has_left_nothing_when_we_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many processes take the kernel a moment to end. The agent has to wait: what it gives up is started elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("a namespace made as root needs root")
    left: list[int] = []
    kill = SpawnerProcess.kill

    def kill_and_look(spawner: SpawnerProcess) -> None:
        kill(spawner)
        left.append(len(place.task_processes()))

    monkeypatch.setattr(SpawnerProcess, "kill", kill_and_look)
    async with place_at(tmp_path, sandbox=Sandbox("root"), capacity=Capacity(cpu=1, memory_bytes=8 << 30)) as place:
        ready = tmp_path / "ready"
        script = "for i in $(seq 400); do sleep 1000 & done; touch $READY; wait"
        await place.channel.submit(place.program(script, environment={"READY": str(ready)}), [{}])
        await eventually(ready.exists)
        assert len(place.task_processes()) > 400
    assert left == [0]


async def test_python_functions(place: Place, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, time\n"
        "def add(a, b):\n    print('adding')\n    return {'sum': a + b, 'pid': os.getpid(), 'seen': os.environ['a']}\n"
        "def fail():\n    raise ValueError('not good')\n"
        "def sleep():\n    time.sleep(1000)\n"
        "def die():\n    os._exit(3)\n"
        "def leave(code):\n    raise SystemExit(code)\n"
    )
    path = {"python_path": (str(tmp_path),)}
    results = {"total": ("return", "/sum"), "pid": ("return", "/pid")}
    add = place.program(python="mine:add", results=results, request=Capacity(cpu=2), **path)
    reports = await place.channel.wait(await place.channel.submit(add, [{"a": 1, "b": n} for n in range(10)]))
    assert [report.results["total"] for report in reports if report.results] == list(range(1, 11))
    assert len({report.results["pid"] for report in reports if report.results}) == 1
    assert {place.text(report.stdout) for report in reports} == {"adding\n"}
    failed = await place.run(python="mine:fail", **path)
    assert (failed.cause, failed.exit_code) == (Cause.EXIT_CODE, 1)
    assert "not good" in failed.message
    assert "Traceback" in place.text(failed.stderr)
    assert (await place.run(python="mine:sleep", timeout_s=0.2, **path)).cause is Cause.TIMEOUT
    assert (await place.run(python="mine:die", **path)).exit_code == 3
    assert (await place.run(python="no_such_module:f", **path)).cause is Cause.ENVIRONMENT
    left = [await place.run(python="mine:leave", parameters={"code": code}, **path) for code in (70000, 256, 0)]
    assert [report.exit_code for report in left] == [70000 & 255, 0, 0], "as a program of its own would end"


async def test_a_killed_spawner_is_replaced_and_its_task_reported(place: Place) -> None:
    identities = await place.channel.submit(place.program("setsid sleep 1000 & wait"), [{}, {}])
    for identity in identities:
        await place.channel.wait_running(identity)
    for pid in place.agent.spawner_pids():
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        reports = await place.channel.wait(identities)
    assert {(report.state, report.cause) for report in reports} == {(TaskState.FAILED, Cause.INFRASTRUCTURE)}
    assert place.task_processes() == []
    assert (await place.run("exit 0")).state is TaskState.SUCCEEDED


async def test_a_lost_lease_ends_everything_and_starts_anew(place: Place) -> None:
    identities = await place.channel.submit(place.program("test $AIRAVATA_ATTEMPT = 2 || sleep 1000"), [{}])
    await place.channel.wait_running(identities[0])
    await place.channel.expire()
    step_id, index, _ = identities[0]
    async with asyncio.timeout(PATIENCE_S):
        (report,) = await place.channel.wait([(step_id, index, 2)])
    assert report.state is TaskState.SUCCEEDED
    assert len(place.channel.hellos) == 2


async def test_a_drained_agent_finishes_what_it_has(tmp_path: Path) -> None:
    async with place_at(tmp_path) as place:
        identities = await place.channel.submit(place.program("sleep 0.2"), [{}, {}])
        await place.channel.wait_running(identities[0])
        place.agent.drain()
        await place.channel.wait(identities)
        await eventually(lambda: place.agent.spawner_pids() == [])


class UnreliableChannel(MemoryWorkerChannel):
    """Loses every third call or its answer, at random."""

    random = random.Random(5)

    def _lose(self) -> None:
        if self.random.random() < 0.17:
            raise ChannelUnavailableError("lost")

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[tuple[int, int, int]]:
        self._lose()
        stale = await super().report(worker_id, reports)
        self._lose()
        return stale

    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None = None,
    ) -> Batch:
        self._lose()
        batch = await super().claim(worker_id, free, most, wait_s, held)
        self._lose()
        return batch

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:
        self._lose()
        return await super().heartbeat(worker_id, free, running, wait_s)


async def test_no_report_is_lost_when_the_channel_fails(tmp_path: Path) -> None:
    async with place_at(tmp_path, UnreliableChannel(locations(tmp_path))) as place:
        program = place.program("echo $X")
        identities = await place.channel.submit(program, [{"X": n} for n in range(1500)])
        await eventually(lambda: len({identity[1] for identity in place.channel.ended}) == len(identities))
        for identity, report in place.channel.ended.items():
            assert place.text(report.stdout) == f"{identity[1]}\n"


async def test_a_spawner_that_cannot_be_replaced_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its slots would be given tasks that nobody runs."""

    def fail(_: str) -> None:
        raise OSError(errno.EAGAIN, "no room for another process")

    async def work() -> None:
        async with place_at(tmp_path) as place:
            identities = await place.channel.submit(place.program("sleep 1000"), [{}])
            await place.channel.wait_running(identities[0])
            monkeypatch.setattr(pool, "start_spawner", fail)
            for pid in place.agent.spawner_pids():
                os.kill(pid, signal.SIGKILL)
            await eventually(lambda: place.agent.spawner_pids() == [])

    with pytest.raises(OSError, match="no room for another process"):
        await work()
