"""Where the microseconds of a task go.

    python -m benchmarks.profile --tasks 20000 [--functions 15] [--json]

Two runs of so many `/bin/true` on a platform of its own. In the first, the CPU time of each of our processes (from
`/proc`, children that belong to it included) is divided by the number of tasks. In the second, `py-spy` samples the
processes written in Python 250 times a second, without stopping them; only what uses CPU is counted. What it saw says
how the CPU time of the first run divides into stages (`stages.py`) and functions. PostgreSQL's processes count as the
stage "database" as a whole. The tasks' own CPU is not ours and not in the figures.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bare import TRUE, bare_rate
from benchmarks.live import LivePlatform, temporary_home
from benchmarks.peers.running import PeerError, peers_python
from benchmarks.proc import cpu_s, used_since
from benchmarks.saying import say, show
from benchmarks.stages import Samples, read_collapsed

RATE_HZ = 250
_SAMPLED = ("svc.task-scheduler", "svc.experiment-orchestrator", "exec.", "api.")


def used_by_process(platform: LivePlatform, tasks: int) -> tuple[dict[str, float], float]:
    """Microseconds of CPU per task by process, and tasks a second."""
    before = cpu_s(platform.pids())
    took_s = platform.run([TRUE], tasks)
    used = {name: used_since(before, pids) * 1e6 / tasks for name, pids in platform.named_pids().items()}
    return used, tasks / took_s


def sample(platform: LivePlatform, tasks: int) -> dict[str, Samples]:
    """Stacks by process, over another run. PeerError if py-spy cannot be had."""
    spy = str(Path(peers_python()).with_name("py-spy"))
    found: dict[str, Samples] = {}
    with tempfile.TemporaryDirectory() as directory:
        running: dict[str, subprocess.Popen[bytes]] = {}
        for name, pids in platform.named_pids().items():
            if name.startswith(_SAMPLED):
                output = Path(directory) / name.replace("/", "+")
                command = [spy, "record", "--pid", str(min(pids)), "--format", "raw", "--rate", str(RATE_HZ)]
                command += ["--nonblocking", "--full-filenames", "--output", str(output), "--duration", "unlimited"]
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


def by_stage(used: Mapping[str, float], sampled: Mapping[str, Samples]) -> dict[str, float]:
    """Microseconds of a task by stage: the CPU of each process in the proportion of its samples."""
    stages: defaultdict[str, float] = defaultdict(float)
    for name, micros in used.items():
        samples = sampled.get(name)
        if name.startswith("postgres"):
            stages["database"] += micros
        elif samples and samples.total:
            for stage, count in samples.stages.items():
                stages[stage] += micros * count / samples.total
        else:
            stages["other processes"] += micros
    return dict(sorted(stages.items(), key=lambda item: -item[1]))


def tell(used: Mapping[str, float], sampled: Mapping[str, Samples], functions: int) -> None:
    """The tables, for people."""
    for name, micros in sorted(used.items(), key=lambda item: -item[1]):
        say(f"\n{name}: {micros:.1f} us a task")
        samples = sampled.get(name)
        if not samples or micros < 1:
            continue
        for title, counted in (("stage", samples.stages), ("own time", samples.own), ("with callees", samples.within)):
            say(f"  {title}")
            for what, share in samples.shares(counted, functions):
                say(f"    {micros * share:7.1f} us  {100 * share:5.1f} %  {what}")


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
    figures: dict[str, Any] = {"tasks_per_s": rate, "spawn_per_s": bare, "cpu_us": sum(used.values())}
    figures["processes"] = {name: round(micros, 1) for name, micros in used.items()}
    figures["stages"] = {name: round(micros, 1) for name, micros in stages.items()}
    show(figures, as_json=options.json)


if __name__ == "__main__":
    main()
