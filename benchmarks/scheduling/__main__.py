"""`python -m benchmarks.scheduling --instances all --seed S --json`: one line per instance and policy."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .run import Line, lines


def main() -> int:
    """Parses the options, runs, prints; exit 0 when every instance ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduling", description=__doc__)
    parser.add_argument("--instances", default="all", help="all, or names separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--error", type=float, default=0.0, help="relative runtime error, 0.5 is plus or minus 50 %%")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--report", type=Path, help="a folder to write table.md and the pictures to")
    options = parser.parse_args()
    chosen = None if options.instances == "all" else options.instances.split(",")
    found = []
    for line in lines(options.seed, chosen, options.error):
        found.append(line)
        sys.stdout.write((json.dumps(line.as_json()) if options.json else _text(line)) + "\n")
        sys.stdout.flush()
    if not found:
        sys.stderr.write(f"no instance is called {options.instances}: use all, or names from the output of all\n")
        return 2
    if options.report is not None:
        _report(found, options.seed, chosen, options.report)
    return 0


def _report(found: list[Line], seed: int, chosen: list[str] | None, folder: Path) -> None:
    from .report import pictures, table  # noqa: PLC0415 - matplotlib is only needed for reports

    noisy = list(lines(seed, chosen, 0.5))
    pictures(found, folder)
    (folder / "table.md").write_text(table(found, noisy) + "\n", encoding="utf-8")


def _text(line: Line) -> str:
    gap = "" if line.gap is None else f"gap {line.gap:.3%}"
    gap += "" if line.regret is None else f"regret {line.regret:+.1%}"
    solve = "" if line.solve_ms is None else f"{line.solve_ms:.0f} ms"
    return (
        f"{line.instance:16} {line.policy:24} {line.objective:14.2f} cost {line.cost:10.4f} "
        f"{line.makespan_s:10.1f} s missed {line.missed:4} moved {line.bytes / 1e9:8.1f} GB {gap} {solve}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
