"""`python -m benchmarks.peers NAME TASKS SLOTS COMMAND…` prints the seconds that one peer took, as its last line."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Runs in whichever environment has the peer."""
    name, tasks, slots, *command = sys.argv[1:]
    seconds: float = importlib.import_module(f"benchmarks.peers.{name}").run(command, int(tasks), int(slots))
    print(seconds, flush=True)


if __name__ == "__main__":
    main()
