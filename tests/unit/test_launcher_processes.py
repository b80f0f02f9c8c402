"""Identity, marks, trees and locks, on real processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.processes import MARK_VARIABLE, Belongings, FileLock, ProcessId

_SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]
_DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)",
]
_PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys; p = subprocess.Popen(['sleep', '300']); print(p.pid, flush=True); p.wait()",
]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    children: list[subprocess.Popen[str]] = []
    yield children
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def _start(started: list[subprocess.Popen[str]], command: list[str], **variables: str) -> tuple[ProcessId, str]:
    environment = {**os.environ, **variables}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    started.append(child)
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    process = processes.identify(child.pid)
    assert process is not None
    return process, line


def test_another_start_time_or_boot_is_another_process(started: list[subprocess.Popen[str]]) -> None:
    process, _ = _start(started, _SLEEP)
    assert process.alive()
    for other in (
        dataclasses.replace(process, start_ticks=process.start_ticks + 1),
        dataclasses.replace(process, boot="another boot"),
    ):
        assert not other.alive()
        assert not other.kill()
    assert process.alive()


def test_a_zombie_is_not_alive(started: list[subprocess.Popen[str]]) -> None:
    process, _ = _start(started, _SLEEP)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists()
    assert not process.alive()
    assert processes.identify(process.pid) is None


def test_identity_survives_json(started: list[subprocess.Popen[str]]) -> None:
    process, _ = _start(started, _SLEEP)
    assert ProcessId.from_json(process.as_json()) == process
    for damaged in (None, {}, {"pid": "x", "start_ticks": 1, "boot": ""}, [1]):
        assert ProcessId.from_json(damaged) is None


def test_processes_are_found_by_their_mark_alone(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    ours, _ = _start(started, _SLEEP, **{MARK_VARIABLE: "mark-of-this-test"})
    _start(started, _SLEEP, **{MARK_VARIABLE: "mark-of-this-test-but-longer"})
    assert Belongings("mark-of-this-test", (), tmp_path).find() == [ours]


def test_a_process_never_finds_itself_or_what_it_runs_under(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from airavata_scheduler.launcher.processes import Belongings;"
        "print(Belongings('mark-of-a-parent', (), Path('/')).find())"
    )
    root = Path(processes.__file__).parents[2]
    environment = {**os.environ, MARK_VARIABLE: "mark-of-a-parent", "PYTHONPATH": str(root)}
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1"; true', sys.executable, code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_deaf_process_is_killed_after_its_time(started: list[subprocess.Popen[str]]) -> None:
    process, _ = _start(started, _DEAF)
    assert processes.end_processes([process], term_s=0.1) == []
    assert started[0].wait(timeout=10) == -signal.SIGKILL


def test_descendants_are_found_parents_first(started: list[subprocess.Popen[str]]) -> None:
    process, child = _start(started, _PARENT)
    try:
        assert processes.descendants(process.pid) == [int(child)]
        found = processes.descendants(os.getpid())
        assert found.index(process.pid) < found.index(int(child))
        assert list(processes.ancestors(int(child)))[:3] == [int(child), process.pid, os.getpid()]
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_killing_goes_on_until_a_look_finds_nothing() -> None:
    dead = dataclasses.replace(processes.identify_self(), start_ticks=0)
    looks = iter([[dead], [dead], [], [dead]])
    assert processes.end_all(lambda: next(looks), limit_s=5.0) == []
    assert list(looks) == [[dead]]


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire(limit_s=0.1)
    first.release()
    assert second.acquire()
    second.release()


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    ours, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert other.holder() is None
    assert ours.acquire()
    assert other.holder() == processes.identify_self()
    ours.release()
    assert other.holder() is None
    (tmp_path / "lock").write_text('{"pid": 1, "start_ticks": -1, "boot": "another"}')
    assert other.holder() is None, "who was killed has not released it"


def test_a_damaged_state_file_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert processes.read_json(path) == {}
    for text in ("{", "[1]", "\udcff"):
        path.write_text(text, errors="surrogateescape")
        assert processes.read_json(path) == {}
    processes.write_json(path, {"a": 1})
    assert processes.read_json(path) == {"a": 1}
    assert path.stat().st_mode & 0o077 == 0
