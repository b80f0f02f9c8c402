"""How close short tasks come to ideal on all slots.

    python -m benchmarks.efficiency --json

The tasks are `/bin/sleep 0.01`, `0.1` and `1`: programs that cost next to no CPU, so that what is lost is lost by us.
Ideal is what nothing but the machine allows: N times the measured duration of the same command, divided by the number
of slots. That duration is taken in the same run with all slots busy, by small interpreters that only start the command
and wait for it (`bare.py`), so that the cost of a process and of its exit is in it. Efficiency is ideal divided by what
the platform says has passed from the submission to the end of the experiment: the first start, the last report and
everything between count as loss. Bare and ours take turns; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

from benchmarks.bare import bare_s
from benchmarks.live import LivePlatform, temporary_home
from benchmarks.saying import say, show


@dataclass(frozen=True, slots=True)
class Length:
    """Tasks of one duration: how many of ours, and how many are enough to know the bare duration."""

    name: str
    duration_s: float
    tasks: int
    bare_tasks: int


LENGTHS = (Length("10ms", 0.01, 2000, 600), Length("100ms", 0.1, 300, 60), Length("1s", 1.0, 100, 6))


def efficiency(platform: LivePlatform, length: Length, tasks: int) -> float:
    """Ideal time over ours, once."""
    command, slots = ["/bin/sleep", str(length.duration_s)], platform.slots
    each_s = bare_s(command, length.bare_tasks, slots) * slots / length.bare_tasks
    took_s = platform.run(command, tasks)
    ideal_s = tasks * each_s / slots
    say(f"{length.name}: {tasks} tasks in {took_s:.3f} s, ideal {ideal_s:.3f} s, {ideal_s / took_s:.4f}")
    return ideal_s / took_s


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of a quarter of the tasks")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    rounds, part = (1, 4) if options.quick else (options.rounds, 1)
    found: dict[str, list[float]] = {length.name: [] for length in LENGTHS}
    with temporary_home() as home, LivePlatform(home, options.slots) as platform:
        platform.warm_up()
        for _ in range(rounds):
            for length in LENGTHS:
                found[length.name].append(efficiency(platform, length, length.tasks // part))
    show({f"efficiency_{name}": statistics.median(values) for name, values in found.items()}, as_json=options.json)


if __name__ == "__main__":
    main()
