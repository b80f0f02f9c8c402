"""How the platform answers: starting, ending, idling, and what one waits for when the machine has nothing else to do.

    python -m benchmarks.response --json

| figure | is the time from … to … |
|---|---|
| `up_cold_s` | `airavata up` in a home that never was one; healthy, tasks can run |
| `up_warm_s` | `airavata up` in a home that was ended; the same |
| `down_s` | `airavata down`; nothing runs any more |
| `first_start_s` | a task is submitted (the database's time); its attempt starts (the worker's time, same clock) |
| `submit_100k_s` | the request goes out; stored, and the API has answered how many tasks there are |
| `cancel_100k_s` | the request goes out, 2 tasks running; the platform says canceled, no process of them lives |

`pending_bytes` is the growth of our processes' own memory while 100,000 tasks wait, per task; `files_10k` are the files
that 10,000 tasks without outputs leave below storage and scratch. `idle_cpu_percent` is the CPU of our processes, of
one core, while nothing happens, without what Ray's library alone uses in them (`idle.py`); `idle_whole_percent` is with
it, `idle_empty_actor_percent` is what it uses in an actor, `idle_driver_percent` in a driver, `idle_serve_percent`
what Serve's controller and proxy use.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from airavata_scheduler.launcher import processes
from benchmarks.bare import TRUE
from benchmarks.idle import idle
from benchmarks.live import LivePlatform, sweep, temporary_home, until_running
from benchmarks.processes import memory_per_pending_task
from benchmarks.saying import say, show

MANY = 100_000
QUIET_S = 30.0  #: after a start Ray's dashboard and Serve are busy for about so long
_CANCEL_LIMIT_S = 60.0


def first_start_s(platform: LivePlatform) -> float:
    """Once: from the submission of one task to its start."""
    with platform.client() as client:
        run = client.submit(sweep([TRUE], 1, "first")).wait()
        started = run.task("t", 0)["attempts"][0]["started_at"]
        return (_time(started) - _time(run.state["submitted_at"])).total_seconds()


def submit_s(platform: LivePlatform, tasks: int) -> float:
    """Once: a draft, so that nothing else happens meanwhile."""
    with platform.client() as client:
        client.whoami()
        began = time.monotonic()
        run = client.submit(sweep([TRUE], tasks, "many"), start=False)
        seen = run.refresh()["tasks"]["total"]
        took_s = time.monotonic() - began
    if seen != tasks:
        message = f"{seen} of {tasks} tasks can be seen"
        raise RuntimeError(message)
    return took_s


def cancel_s(platform: LivePlatform, tasks: int) -> float:
    """Once: until the platform says so and no process of the tasks is left."""
    mark = f"7{uuid.uuid4().int % 10**6:06d}"  # a duration that no other `sleep` of this machine has
    with platform.client() as client:
        run = client.submit(sweep(["/bin/sleep", mark], tasks, "cancel"))
        until_running(run)
        processes.wait_until(lambda: len(_sleeping(mark)) == platform.slots, 10.0)
        began = time.monotonic()
        run.cancel()
        ended = processes.wait_until(lambda: not _sleeping(mark), _CANCEL_LIMIT_S)
        told = processes.wait_until(lambda: run.refresh()["tasks"]["canceled"] == tasks, _CANCEL_LIMIT_S)
        took_s = time.monotonic() - began
    if not (ended and told):
        message = f"after {_CANCEL_LIMIT_S} s {_sleeping(mark)} still run; the platform says {run.state}"
        raise RuntimeError(message)
    return took_s


def files_after(platform: LivePlatform, tasks: int) -> int:
    """How many files there are after so many more tasks without outputs; those of earlier runs are among them."""
    platform.run([TRUE], tasks)
    return platform.files()


def _sleeping(mark: str) -> list[int]:
    return [pid for pid in processes.pids() if processes.command_of(pid) == ["/bin/sleep", mark]]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _median(measure: Callable[[], float], rounds: int) -> float:
    return statistics.median(measure() for _ in range(rounds))


def respond(home: Path, *, quick: bool) -> dict[str, Any]:
    """All figures of the module."""
    platform = LivePlatform(home)
    rounds = 1 if quick else 5
    found: dict[str, Any] = {"up_cold_s": platform.up()}
    try:
        say(f"up (cold): {found['up_cold_s']:.2f} s")
        platform.warm_up()
        found["first_start_s"] = _median(lambda: first_start_s(platform), rounds)
        found["submit_100k_s"] = _median(lambda: submit_s(platform, MANY), rounds)
        found["cancel_100k_s"] = _median(lambda: cancel_s(platform, MANY), 1 if quick else 3)
        found["pending_bytes"] = memory_per_pending_task(platform, MANY)
        found["files_10k"] = files_after(platform, 10_000)
        seen = idle(platform, 10.0 if quick else QUIET_S, 10.0 if quick else 30.0)
        for name, percent in sorted(seen.by_process.items(), key=lambda item: -item[1]):
            say(f"idle: {name} {percent:.2f} %")
        found |= {"idle_cpu_percent": seen.own, "idle_whole_percent": seen.whole}
        found |= {"idle_empty_actor_percent": seen.empty, "idle_driver_percent": seen.driver}
        found["idle_serve_percent"] = seen.serve
        found["down_s"] = platform.down()
        found["up_warm_s"] = platform.up()
    finally:
        down_s = platform.down()
    found["down_s"] = statistics.mean((found["down_s"], down_s))
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    with temporary_home() as home:
        show(respond(home, quick=options.quick), as_json=options.json)


if __name__ == "__main__":
    main()
