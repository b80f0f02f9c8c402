"""Every process is killed in the middle of a sweep with a dependent step, and nothing is lost or done twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airavata_scheduler.launcher.processes import ProcessId, identify
from airavata_scheduler.launcher.status import status

if TYPE_CHECKING:
    from conftest import Platform

#: As in settings.py.
_ACTOR_LEASE_S, _WORKER_LEASE_S = 20.0, 20.0
_N = 2000
_HEALED_S = 150.0
#: A platform that has recovered has work under way so soon after that.
_FIRST_DISPATCH_S = 10.0
_DOCUMENT = """
name: "{name}"
scripts:
  work: |
    #!/bin/sh
    echo "$I" > "$OUT"
  merge: |
    #!/bin/sh
    xargs cat < "$PARTS" > "$ALL"
tasks:
  work: {{script: work, task_inputs: {{I: 1..{n}}}, task_outputs: {{OUT: out.txt}}}}
  merge: {{script: merge, gather: [work], task_inputs: {{PARTS: "${{work.OUT}}"}}, task_outputs: {{ALL: all.txt}}}}
"""

Wait = Callable[..., None]


class Sweep:
    """A sweep that is under way when the fault comes, and the check that it ended as if there had been none.

    ``pids`` are those of the platform's processes before the fault: looking them up takes as long as many tasks.
    """

    def __init__(self, platform: Platform, name: str, folder: Path, wait_until: Wait, n: int = _N) -> None:
        self._platform = platform
        self._folder = folder
        self._wait_until = wait_until
        self._n = n
        self.pids = platform.pids()
        self.id = platform.submit(_DOCUMENT.format(name=name, n=n))
        wait_until(lambda: platform.counts(self.id)["succeeded"] >= 20, 60)
        self._began_at = time.time()

    def pid_of(self, name: str) -> int:
        """Of the process whose name begins or ends with this."""
        return next(pid for key, pid in self.pids.items() if key.startswith(name) or key.endswith(name))

    def recovers(self, *killed: int) -> float:
        """Wait until nobody counts on what was killed any more and all is well; when that was."""

        def is_replaced() -> bool:
            state = status(self._platform.home)
            return bool(state["healthy"]) and not {entry["pid"] for entry in state["processes"]} & {*killed}

        self._wait_until(is_replaced, _HEALED_S, lambda: f"not healthy: {self._platform.status()}")
        return time.time()

    def ends_well(self, recovered_at: float) -> None:
        """SUCCEEDED, exact counts, each output once with its content, no process left; work went on at once.

        Also shows that the fault came in the middle: most tasks were started after it.
        """
        end = self._platform.watch(self.id, timeout_s=200)
        n = self._n + 1
        assert (end["status"], end["tasks"]["total"], end["tasks"]["succeeded"]) == ("SUCCEEDED", n, n)
        outputs = self._platform.experiment("outputs", self.id, "--limit", str(10 * n))["items"]
        assert Counter((row["step"], row["index"]) for row in outputs) == Counter(
            [("work", i) for i in range(self._n)] + [("merge", 0)]
        )
        self._platform.experiment("download", self.id, "--output", str(self._folder))
        content = {int(p.parent.name): p.read_text() for p in (self._folder / "work").rglob("out.txt")}
        assert content == {i: f"{i + 1}\n" for i in range(self._n)}
        merged = (self._folder / "merge/0/all.txt").read_text().split()
        assert merged == [str(i + 1) for i in range(self._n)]
        rows = self._platform.experiment("results", self.id)["items"]
        assert len(rows) == n
        assert {row["state"] for row in rows} == {"SUCCEEDED"}
        starts = sorted(datetime.fromisoformat(row["started_at"]).timestamp() for row in rows)
        assert starts[self._n // 2] > self._began_at, "it was nearly over before the fault: make it longer"
        # None at all is left to be started if others went on with everything meanwhile.
        assert min((at for at in starts if at > recovered_at), default=0.0) < recovered_at + _FIRST_DISPATCH_S
        self._wait_until(lambda: not self._platform.tasks_alive(self.id), 20)
        self._wait_until(lambda: not self._platform.strays(), 20, lambda: f"strays: {self._platform.strays()}")


@pytest.fixture
def sweep(platform: Platform, tmp_path: Path, wait_until: Wait, request: pytest.FixtureRequest) -> Iterator[Sweep]:
    under_way = Sweep(platform, request.node.name, tmp_path, wait_until)
    yield under_way
    platform.experiment("cancel", under_way.id, code=None)


def _kill(*pids: int) -> list[ProcessId]:
    """Kill them; who they were, because a sweep comes round to their numbers again."""
    found = [process for pid in pids if (process := identify(pid)) is not None]
    for process in found:
        process.kill()
    return found


@pytest.mark.parametrize(
    "name",
    [
        "svc.task-scheduler",
        "svc.worker-lifecycle",
        "svc.experiment-orchestrator",
        "svc.data-mover",
        # Nobody needs these to get on, so one sweep does for all of them.
        "svc.resource-registry svc.credential-vault api.streams api.controller",
        "exec.",
        "/spawner-0",
        "api.api",
        "api.proxy",
        "keeper",
        "postgres",
    ],
)
def test_kill(sweep: Sweep, name: str) -> None:
    pids = [sweep.pid_of(one) for one in name.split()]
    killed = _kill(*pids)
    sweep.ends_well(sweep.recovers(*pids))
    assert not any(process.alive() for process in killed)


def test_kill_of_the_supervisor_needs_up(platform: Platform, sweep: Sweep, wait_until: Wait) -> None:
    before = sweep.pids
    _kill(before["supervisor"])
    wait_until(lambda: not status(platform.home)["healthy"], 20)
    assert any("airavata up" in problem for problem in platform.status()["problems"])
    platform.up()
    sweep.ends_well(time.time())
    after = platform.pids()
    assert after["supervisor"] != before["supervisor"]
    assert after["ray.raylet"] == before["ray.raylet"], "what ran is adopted, not started again"


def test_kill_of_all_ray_processes(sweep: Sweep) -> None:
    pids = [pid for name, pid in sweep.pids.items() if name.startswith(("ray.", "svc.", "exec.", "api."))]
    killed = _kill(*pids)
    sweep.ends_well(sweep.recovers(*pids))
    assert not any(process.alive() for process in killed)


@pytest.mark.parametrize(("name", "lease_s"), [("svc.task-scheduler", _ACTOR_LEASE_S), ("exec.", _WORKER_LEASE_S)])
@pytest.mark.parametrize("watched", [True, False], ids=["watched", "unwatched"])
def test_frozen_for_longer_than_a_lease(
    sweep: Sweep, name: str, lease_s: float, watched: bool, wait_until: Wait, is_alive: Any
) -> None:
    """Who watches a frozen process kills it. Where nobody does, it wakes up and must find out what has become of it."""
    frozen = [sweep.pid_of(one) for one in ([name] if watched else [name, "keeper", "supervisor"])]
    for pid in reversed(frozen):
        os.kill(pid, signal.SIGSTOP)
    try:
        thawed_at = time.monotonic() + 1.3 * lease_s
        wait_until(lambda: time.monotonic() > thawed_at or not is_alive(frozen[0]), 2 * lease_s)
    finally:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    sweep.ends_well(sweep.recovers())


@pytest.mark.parametrize("keeper_too", [False, True], ids=["watched", "found"])
def test_frozen_controller_of_serve(platform: Platform, keeper_too: bool, wait_until: Wait) -> None:
    """Serve itself would wait for it without a limit: whoever watches the API, and whoever starts it."""
    before = platform.pids()
    os.kill(before["api.controller"], signal.SIGSTOP)
    if keeper_too:
        _kill(before["keeper"])

    def is_replaced() -> bool:
        state = status(platform.home)
        pids = {entry["name"]: entry["pid"] for entry in state["processes"]}
        return bool(state["healthy"]) and pids.get("api.controller") not in (before["api.controller"], None)

    wait_until(is_replaced, _HEALED_S, lambda: f"not healthy: {platform.status()}")
    assert platform.experiment("list")["items"] is not None


def test_everything_at_once(platform: Platform, sweep: Sweep, wait_until: Wait) -> None:
    pids = list(sweep.pids.values())
    random.Random(1).shuffle(pids)
    killed = _kill(*pids)
    wait_until(lambda: not any(process.alive() for process in killed), 20)
    platform.up()
    sweep.ends_well(time.time())
    assert platform.status()["healthy"]
