"""Where the microseconds of a task go.

    python -m benchmarks.profile --tasks 20000 [--functions 15] [--json]

Two runs of so many `/bin/true` on a platform of its own. In the first, the CPU time of each of our processes (from
`/proc`, children that belong to it included) is divided by the number of tasks. In the second, `py-spy` samples the
processes written in Python 100 times a second: the thread that holds the interpreter's lock, or in a spawner, which has
one thread, whatever it does but wait. What was seen says how the CPU time of the first run divides into stages
(`stages.py`) and functions. PostgreSQL's processes count as the stage "database" as a whole, the solvers, which are
children of the scheduler, as "planner", and the threads that Ray's library runs beside ours as "Ray's threads". The
tasks' own CPU is not ours and not in the figures.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bare import TRUE, bare_rate
from benchmarks.live import LivePlatform, temporary_home
from benchmarks.peers.running import PeerError, peers_python
from benchmarks.proc import cpu_s, ray_threads_cpu_s, used_since
from benchmarks.saying import say, show
from benchmarks.stages import Samples, read_collapsed

RATE_HZ = 100
_NODE = re.compile(r"^exec\.[^/]+")  #: the name of an executor, which holds that of the machine
_SOLVERS = "svc.task-scheduler/solvers"
#: Processes that do one thing only.
_WHOLE = {"postgres": "database", _SOLVERS: "planner"}
_SAMPLED = ("svc.task-scheduler", "svc.experiment-orchestrator", "exec.", "api.")


@dataclass(frozen=True, slots=True)
class Used:
    """Microseconds of CPU per task of one process: all of it, and what Ray's own threads took of that."""

    micros: float
    ray_micros: float


def used_by_process(platform: LivePlatform, tasks: int) -> tuple[dict[str, Used], float]:
    """By name, over a run; and its tasks a second."""
    groups = _with_solvers(platform.named_pids())
    before = cpu_s(pid for pids in groups.values() for pid in pids)
    ray_before = {name: ray_threads_cpu_s(pids) for name, pids in groups.items()}
    took_s = platform.run([TRUE], tasks)
    used = {}
    for name, pids in _with_solvers(platform.named_pids()).items():
        ray_s = ray_threads_cpu_s(pids) - ray_before.get(name, 0.0)
        used[name] = Used(used_since(before, pids) * 1e6 / tasks, ray_s * 1e6 / tasks)
    return used, tasks / took_s


def _with_solvers(groups: Mapping[str, set[int]]) -> dict[str, set[int]]:
    """The scheduler's children, which do nothing but solve, as an entry of their own."""
    scheduler = groups["svc.task-scheduler"]
    solvers = scheduler - {min(scheduler)}
    return {**groups, "svc.task-scheduler": scheduler - solvers, _SOLVERS: solvers}


def sample(platform: LivePlatform, tasks: int) -> dict[str, Samples]:
    """Stacks by process, over another run. PeerError if py-spy cannot be had."""
    spy = str(Path(peers_python()).with_name("py-spy"))
    found: dict[str, Samples] = {}
    with tempfile.TemporaryDirectory() as directory:
        running: dict[str, subprocess.Popen[bytes]] = {}
        for name, pids in platform.named_pids().items():
            if name.startswith(_SAMPLED):
                spawner = "/spawner-" in name
                # A spawner works in its child, and is in the kernel for most of its time, without the lock.
                pid = max(pids) if spawner else min(pids)
                output = Path(directory) / name.replace("/", "+")
                command = [spy, "record", "--pid", str(pid), "--format", "raw", "--rate", str(RATE_HZ)]
                command += ["--full-filenames", "--output", str(output), "--duration", "unlimited"]
                command += [] if spawner else ["--gil"]
                running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            platform.run([TRUE], tasks)
        finally:
            for spying in running.values():
                spying.send_signal(2)
            for spying in running.values():
                spying.wait(30)
        for name in running:
            output = Path(directory) / name.replace("/", "+")
            if output.exists():
                found[name] = read_collapsed(output.read_text())
    return found


def by_stage(used: Mapping[str, Used], sampled: Mapping[str, Samples]) -> dict[str, float]:
    """Microseconds of a task by stage: the CPU of each process in the proportion of its samples."""
    stages: defaultdict[str, float] = defaultdict(float)
    for name, spent in used.items():
        samples = sampled.get(name)
        if whole := _WHOLE.get(name):
            stages[whole] += spent.micros
            continue
        stages["Ray's threads"] += spent.ray_micros
        own = spent.micros - spent.ray_micros
        if samples and samples.total:
            for stage, count in samples.stages.items():
                stages[stage] += own * count / samples.total
        else:
            stages["other processes"] += own
    return dict(sorted(stages.items(), key=lambda item: -item[1]))


def tell(used: Mapping[str, Used], sampled: Mapping[str, Samples], functions: int) -> None:
    """The tables, for people."""
    for name, spent in sorted(used.items(), key=lambda item: -item[1].micros):
        say(f"\n{name}: {spent.micros:.1f} us a task, {spent.ray_micros:.1f} of it in Ray's threads")
        samples = sampled.get(name)
        if not samples or spent.micros < 1:
            continue
        own = spent.micros - spent.ray_micros
        for title, counted in (("stage", samples.stages), ("own time", samples.own), ("with callees", samples.within)):
            say(f"  {title}")
            for what, share in samples.shares(counted, functions):
                say(f"    {own * share:7.1f} us  {100 * share:5.1f} %  {what}")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--functions", type=int, default=15, help="so many of each list are shown")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    with temporary_home() as home, LivePlatform(home, options.slots) as platform:
        platform.warm_up(options.tasks // 4)
        bare = bare_rate(options.tasks // 4, options.slots)
        used, rate = used_by_process(platform, options.tasks)
        try:
            sampled = sample(platform, options.tasks)
        except PeerError as error:
            say(f"functions cannot be told: py-spy {error}")
            sampled = {}
    tell(used, sampled, options.functions)
    stages = by_stage(used, sampled)
    say("\nall processes, by stage")
    for stage, micros in stages.items():
        say(f"  {micros:7.1f} us  {stage}")
    figures: dict[str, Any] = {
        "tasks_per_s": rate,
        "spawn_per_s": bare,
        "cpu_us": sum(spent.micros for spent in used.values()),
    }
    figures["processes"] = {_NODE.sub("executor", name): round(spent.micros, 1) for name, spent in used.items()}
    figures["stages"] = {name: round(micros, 1) for name, micros in stages.items()}
    show(figures, as_json=options.json)


if __name__ == "__main__":
    main()
