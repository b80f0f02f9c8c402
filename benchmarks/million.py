"""A sweep of a million tasks, from its submission to its results table, and what one waits for at that size.

    python -m benchmarks.million --json [--tasks 1000000]

First workers that report at once work the tasks off over a real PostgreSQL (`noop.py`); every thousandth task fails.
Then a platform is started over the same database, and asked through the API and the command:

| figure | is |
|---|---|
| `ms_per_task` | wall time of the whole, divided by the number of tasks |
| `linearity` | CPU time per task in the last tenth of the run over that in the second tenth: 1 is linear |
| `wall_linearity` | the same of wall time, in which all that others do on the machine is as well |
| `growth_bytes` | memory of our processes per task done, PostgreSQL's included: 0 is flat |
| `results_s` | the results table as a Parquet file, through the API |
| `results_growth_bytes` | by how much the API's memory grew for it, per row |
| `api_…_ms` | one call of the API over a kept connection: the 95th percentile of 40 (`cancel`: the worst of 3) |
| `cli_…_s` | the whole command, start of Python included: the median of 3 |

`list` is of the newest 50 experiments, `status` and `tasks --failed` are of the finished sweep, `cancel` is of another
one with as many pending tasks while two run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.live import LivePlatform, sweep, temporary_home, until_running
from benchmarks.noop import NoopRun, database, noop_platform
from benchmarks.proc import anonymous_bytes
from benchmarks.saying import say, show

FAIL_EVERY = 1000
CALLS = 40


def work_off(home: Path, tasks: int) -> NoopRun:
    """The sweep, over the database of a home."""

    async def run() -> NoopRun:
        async with noop_platform(settings) as platform:
            return await platform.measure(tasks, FAIL_EVERY)

    with database(home) as settings:
        return asyncio.run(run())


def call_figures(platform: LivePlatform, experiment: str) -> dict[str, float]:
    """Milliseconds of calls that read."""
    with platform.client() as client:
        run = client.run(experiment)
        reads: dict[str, Callable[[], Any]] = {
            "list": lambda: list(client.experiments(limit=50)),
            "status": run.refresh,
            "tasks_failed": lambda: list(run.tasks(None, ["failed"], 50)),
        }
        return {f"api_{name}_ms": _p95_ms(read) for name, read in reads.items()}


def cancel_ms(platform: LivePlatform, tasks: int) -> float:
    """Milliseconds of the call, the worst of three."""
    taken = []
    with platform.client() as client:
        for _ in range(3):
            run = client.submit(sweep(["/bin/sleep", "3600"], tasks, "pending"))
            until_running(run)
            began = time.perf_counter()
            run.cancel()
            taken.append(time.perf_counter() - began)
    return max(taken) * 1000


def command_figures(platform: LivePlatform, experiment: str, tasks: int) -> dict[str, float]:
    """Seconds of whole commands."""
    commands = {
        "list": ("experiment", "list"),
        "status": ("experiment", "status", experiment),
        "tasks_failed": ("experiment", "tasks", experiment, "--failed"),
    }
    found = {f"cli_{name}_s": _median_s(partial(platform.airavata, *words)) for name, words in commands.items()}
    with platform.client() as client:
        run = client.submit(sweep(["/bin/sleep", "3600"], tasks, "pending"))
        until_running(run)
    began = time.perf_counter()
    platform.airavata("experiment", "cancel", run.id)
    return found | {"cli_cancel_s": time.perf_counter() - began}


def results_figures(platform: LivePlatform, experiment: str, tasks: int) -> dict[str, float]:
    """The results table as a file."""
    replica = platform.named_pids()["api.api"]
    before, began = anonymous_bytes(replica), time.perf_counter()
    path = platform.home / "results.parquet"
    with platform.client() as client:
        client.run(experiment).save_results(path)
    took_s = time.perf_counter() - began
    grown = anonymous_bytes(replica) - before
    say(f"results: {took_s:.1f} s, {path.stat().st_size / 1e6:.1f} MB, the API grew by {grown / 1e6:.1f} MB")
    return {"results_s": took_s, "results_growth_bytes": max(0.0, grown / tasks)}


def _p95_ms(call: Callable[[], Any]) -> float:
    call()
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.quantiles(taken, n=20)[-1] * 1000


def _median_s(call: Callable[[], Any]) -> float:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    with temporary_home() as home:
        done = work_off(home, options.tasks)
        figures: dict[str, Any] = {
            "tasks": options.tasks,
            "submit_s": done.submit_s,
            "ms_per_task": done.per_task_ms,
            "cpu_ms_per_task": done.cpu_s / options.tasks * 1000,
            "linearity": done.linearity[1],
            "wall_linearity": done.linearity[0],
            "growth_bytes": done.growth_bytes,
        }
        say(f"{figures}; microseconds a task on the way: {done.paces_us}")
        with LivePlatform(home) as platform:
            platform.warm_up()
            figures |= call_figures(platform, done.experiment)
            figures["api_cancel_ms"] = cancel_ms(platform, options.tasks)
            figures |= command_figures(platform, done.experiment, options.tasks)
            say(str(figures))
            figures |= results_figures(platform, done.experiment, options.tasks)
    show(figures, as_json=options.json)


if __name__ == "__main__":
    main()
