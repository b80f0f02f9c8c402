"""A platform of one's own, started for a benchmark and driven as a user would: through the command or the SDK."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from airavata_scheduler.client import Client
from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.ports import free_port
from benchmarks.bare import TRUE
from benchmarks.proc import count_files

#: Serve's controller and proxy are Ray's own processes, though they serve us; `status` lists them with our replicas.
RAYS_OWN = ("api.controller", "api.proxy")


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """A short path, because sockets lie below it."""
    home = Path(tempfile.mkdtemp(prefix="airavata-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def sweep(command: Sequence[str], tasks: int, name: str = "bench", **more: Any) -> dict[str, Any]:
    """A document of one step with so many tasks; ``more`` goes into the step."""
    return {"name": name, "tasks": {"t": {"command": list(command), "task_inputs": {"I": f"1..{tasks}"}, **more}}}


class LivePlatform:
    """`with LivePlatform(home) as platform`: up on entering, down on leaving, whatever happens."""

    def __init__(self, home: Path, slots: int = 2) -> None:
        self.home = home
        self.slots = slots
        self._port = free_port(exclude=set())

    def airavata(self, *words: str) -> dict[str, Any]:
        """The last line of a command as JSON. RuntimeError with its output if it failed."""
        command = [sys.executable, "-m", "airavata_scheduler.cli.main", *words, "--home", str(self.home), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"`airavata {' '.join(words)}` ended with {done.returncode}: {done.stdout}{done.stderr}"
            raise RuntimeError(message)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def up(self) -> float:
        """Start, and the seconds that it took."""
        # A benchmark that is told to end takes its platform along.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        began = time.monotonic()
        self.airavata("up", "--http-port", str(self._port), "--cpus", str(self.slots), "--detach")
        return time.monotonic() - began

    def down(self) -> float:
        """End, and the seconds that it took."""
        began = time.monotonic()
        self.airavata("down")
        return time.monotonic() - began

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def client(self) -> Client:
        """The SDK as the administrator."""
        return Client(home=self.home)

    def run(self, command: Sequence[str], tasks: int) -> float:
        """Seconds from submission to end, as the platform says. RuntimeError unless all succeeded."""
        path = self.home / "run.json"
        path.write_text(json.dumps(sweep(command, tasks)))
        end = self.airavata("experiment", "run", str(path), "--watch")
        if end["tasks"]["succeeded"] != tasks:
            message = f"not every task succeeded: {end}"
            raise RuntimeError(message)
        return float(end["wall_s"])

    def warm_up(self, tasks: int = 200) -> None:
        """The first tasks load what later ones find loaded."""
        self.run([TRUE], tasks)

    def named_pids(self) -> Mapping[str, set[int]]:
        """Our processes by name: without Ray's own and without tasks; with PostgreSQL's and actors' children."""
        found: dict[str, set[int]] = {}
        for process in self.airavata("status")["processes"]:
            if process["role"] == "ray" or process["name"].startswith(RAYS_OWN):
                continue
            pids = found.setdefault(process["name"], {process["pid"]})
            if process["role"] in ("postgres", "actor"):
                pids |= set(processes.descendants(process["pid"]))
            elif process["role"] == "executor":
                pids |= _forks(process["pid"])
        return found

    def pids(self) -> set[int]:
        """All of them."""
        return {pid for pids in self.named_pids().values() for pid in pids}

    def files(self) -> int:
        """Files below storage and scratch."""
        return count_files(self.home / "storage", self.home / "scratch")


def _forks(pid: int) -> set[int]:
    """Children that are copies of a process, as a spawner has one inside its namespace; all others are tasks."""
    command = processes.command_of(pid)
    return {child for child in processes.descendants(pid) if processes.command_of(child) == command}


def until_running(run: Any, limit_s: float = 30.0) -> None:
    """Wait until a task of the run is running. TimeoutError if none is."""
    if not processes.wait_until(lambda: run.refresh()["tasks"]["running"] > 0, limit_s, step_s=0.05):
        message = f"no task of {run.id} was running after {limit_s} s: {run.state}"
        raise TimeoutError(message)
