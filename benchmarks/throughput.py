"""How many tasks a second, beside what the machine could do without us.

    python -m benchmarks.throughput --mode noop|process|sleep --tasks N --json

| mode | does | `ratio` |
|---|---|---|
| noop | real PostgreSQL and services, workers that report at once: our own cost alone | ms per task / 0.15 |
| process | N times /bin/true through a platform of its own | tasks_per_s / spawn_per_s |
| sleep | N times `sleep` | ideal time / measured time |

`spawn_per_s` is what small interpreters reach that do nothing but `posix_spawn` and `wait4`, measured in the same run,
in turns with the platform and the peers; in mode sleep they run the same `sleep`, so they are the ideal. `cpu_s` is the
CPU time of our own processes for one run, PostgreSQL included, Ray's own and the tasks' excluded. `rss_bytes_per_task`
is by how much their anonymous memory grows while tasks are pending. `files` are those that one run leaves below storage
and scratch. Of several rounds the one with the median ratio counts. Peers run in processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from benchmarks.bare import TRUE
from benchmarks.live import temporary_home
from benchmarks.noop import NoopRun, database, noop_platform
from benchmarks.peers.running import PEERS
from benchmarks.proc import count_files
from benchmarks.processes import Outcome, measure
from benchmarks.saying import say, show

NOOP_MS = 0.15  #: per task, what noop is compared with


def noop(tasks: int) -> dict[str, Any]:
    """Our own cost per task: claim, parameters, report, counts and events over a real PostgreSQL."""

    async def run() -> NoopRun:
        async with noop_platform(settings) as platform:
            return await platform.measure(tasks)

    with temporary_home() as home, database(home) as settings:
        done = asyncio.run(run())
        files = count_files(settings.storage_dir, settings.scratch_dir)
    say(
        f"submit {done.submit_s:.3f} s; {done.per_task_ms:.4f} ms a task; CPU {done.cpu_s / tasks * 1000:.4f} ms a task"
    )
    return {
        "mode": "noop",
        "tasks": tasks,
        "tasks_per_s": tasks / done.took_s,
        "spawn_per_s": None,
        "ratio": done.per_task_ms / NOOP_MS,
        "cpu_s": done.cpu_s,
        "rss_bytes_per_task": done.pending_bytes,
        "files": files,
    }


def line(mode: str, tasks: int, outcome: Outcome) -> dict[str, Any]:
    """The contract's line."""
    chosen = outcome.chosen
    figures: dict[str, Any] = {
        "mode": mode,
        "tasks": tasks,
        "tasks_per_s": chosen.tasks_per_s,
        "spawn_per_s": chosen.spawn_per_s,
        "ratio": chosen.ratio,
        "cpu_s": chosen.cpu_s,
        "rss_bytes_per_task": outcome.pending_bytes,
        "files": chosen.files,
    }
    return figures | ({"peers": outcome.peers} if outcome.peers else {})


def _peers(text: str) -> list[str]:
    names = list(PEERS) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        message = f"unknown: {', '.join(unknown)}; choose from {', '.join(PEERS)}, or all"
        raise argparse.ArgumentTypeError(message)
    return names


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("noop", "process", "sleep"), required=True)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--slots", type=int, default=2, help="tasks at one time (process, sleep)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, in turns (process, sleep)")
    parser.add_argument("--duration-s", type=float, default=0.01, help="of one task (sleep)")
    parser.add_argument("--peers", type=_peers, default=[], help=f"all, or some of {','.join(PEERS)} (process, sleep)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    if options.mode == "noop":
        if options.peers:
            parser.error("peers start processes: use them with --mode process or --mode sleep")
        show(noop(options.tasks), as_json=options.json)
        return
    command = [TRUE] if options.mode == "process" else ["/bin/sleep", str(options.duration_s)]
    outcome = measure(command, options.tasks, options.slots, options.rounds, options.peers)
    show(line(options.mode, options.tasks, outcome), as_json=options.json)


if __name__ == "__main__":
    main()
