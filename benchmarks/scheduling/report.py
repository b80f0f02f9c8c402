"""The comparison as a table in Markdown and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from .run import Line

_EDF = "earliest-deadline-first"


def best_baseline(lines: Sequence[Line], instance: str) -> Line:
    """The baseline with the least objective on an instance."""
    rivals = [line for line in lines if line.instance == instance and line.policy not in ("ours", "lp-bound")]
    return min(rivals, key=lambda line: line.objective)


def compared(lines: Sequence[Line]) -> list[tuple[Line, Line]]:
    """Our line and the best baseline's, for every instance that has baselines."""
    ours = [line for line in lines if line.policy == "ours" and not line.instance.startswith("plan-")]
    return [(line, best_baseline(lines, line.instance)) for line in ours]


def table(lines: Sequence[Line], noisy: Sequence[Line]) -> str:
    """One row an instance: objectives, gain, gap and missed deadlines; then the same instances under runtime errors."""
    rows = [
        "| instance | ours | best baseline | its name | gain | gap to LP | missed (EDF) | solve |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mine, rival in compared(lines):
        edf = next(line for line in lines if line.instance == mine.instance and line.policy == _EDF)
        gap = "" if mine.gap is None else f"{mine.gap:.2%}"
        rows.append(
            f"| {mine.instance} | {mine.objective:.1f} | {rival.objective:.1f} | {rival.policy} "
            f"| {1 - mine.objective / rival.objective:.1%} | {gap} | {mine.missed} ({edf.missed}) "
            f"| {mine.solve_ms or 0:.0f} ms |"
        )
    gains = [1 - mine.objective / rival.objective for mine, rival in compared(lines)]
    rows.append(f"\nMedian gain over the best baseline of each instance: {median(gains):.1%}; least {min(gains):.1%}.")
    rows.extend(
        f"\n`{line.instance}`: {line.solve_ms:.0f} ms for the whole call, gap {line.gap or 0.0:.4%}."
        for line in lines
        if line.instance.startswith("plan-")
    )
    return "\n".join([*rows, "", *_regrets(noisy)])


def _regrets(noisy: Sequence[Line]) -> list[str]:
    """Under runtime errors: ours, the best baseline, and how much worse each is than without errors."""
    rows = [
        "| instance | ours | best baseline | its name | gain | regret of ours | regret of the best baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    rows.extend(
        f"| {mine.instance} | {mine.objective:.1f} | {rival.objective:.1f} | {rival.policy} "
        f"| {1 - mine.objective / rival.objective:.1%} | {mine.regret or 0.0:+.1%} | {rival.regret or 0.0:+.1%} |"
        for mine, rival in compared(noisy)
    )
    return rows


def pictures(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Objectives relative to ours for every policy and instance, and cost against makespan."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_relative(lines, folder / "objective.png"), _trade(lines, folder / "cost-time.png")]


def _colours(lines: Sequence[Line]) -> dict[str, str]:
    """One colour a policy, the same in all pictures, ours first."""
    policies = sorted({line.policy for line in lines} - {"lp-bound"}, key=lambda p: (p != "ours", p))
    return {policy: f"C{i}" for i, policy in enumerate(policies)}


def _relative(lines: Sequence[Line], path: Path) -> Path:
    ours = {line.instance: line.objective for line, _ in compared(lines)}
    colours = _colours(lines)
    figure, axes = plt.subplots(figsize=(11, 5))
    for i, (policy, colour) in enumerate(colours.items()):
        points = [line for line in lines if line.policy == policy and line.instance in ours]
        at = [list(ours).index(line.instance) + (i - (len(colours) - 1) / 2) * 0.09 for line in points]
        heights = [line.objective / ours[line.instance] for line in points]
        axes.bar(at, heights, width=0.09, label=policy, color=colour)
    axes.set_yscale("log")
    axes.set_xticks(range(len(ours)), list(ours), rotation=30, ha="right")
    axes.set_ylabel("objective, ours = 1 (less is better)")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.legend(fontsize=8, ncols=3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _trade(lines: Sequence[Line], path: Path) -> Path:
    names = [mine.instance for mine, _ in compared(lines)]
    colours = _colours(lines)
    columns = 4
    height = -(-len(names) // columns)
    figure, grid = plt.subplots(height, columns, figsize=(13, 3 * height), squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        points = {line.policy: line for line in lines if line.instance == name}
        for policy, colour in colours.items():
            if policy in points:
                # Rings, because policies that decide alike lie upon each other.
                look: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.5, "s": 45}
                look = {"marker": "*", "color": colour, "s": 120} if policy == "ours" else look
                axes.scatter(points[policy].makespan_s, points[policy].cost, label=policy, **look)
        axes.set_ylim(0.0, 1.1 * max(line.cost for line in points.values()))
        axes.set_title(name, fontsize=9)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", fontsize=8)
    figure.supxlabel("makespan (s)")
    figure.supylabel("cost")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
