"""The frontier of cost and time as a picture: the plans with their ranges, and where each would run its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

#: Told apart by people who see colours differently, too (Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
#: Fewer plans leave room below them, or one bar would fill the picture.
_LEAST_ROWS = 8
_UNITS = ((172_800.0, 86_400.0, "days"), (7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def draw(found: Mapping[str, Any], target: Path) -> None:
    """Cost over time on the left, tasks by resource on the right; a PNG."""
    from matplotlib.figure import Figure

    points = found["frontier"] or []
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1.0))
    if points:
        _plans(left, points, found)
        _places(right, points)
    else:
        left.text(0.5, 0.5, "no plan finishes all tasks", ha="center", va="center", transform=left.transAxes)
        right.set_axis_off()
    figure.suptitle(f"{found['name']}: {found['n_tasks']} tasks")
    figure.savefig(target, dpi=150, format="png")


def _plans(axes: Axes, points: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> None:
    latest_s = max(point["finish_high_s"] for point in points)
    scale, unit = next((scale, unit) for least, scale, unit in _UNITS if latest_s >= least)
    times = [point["finish_s"] / scale for point in points]
    costs = [point["cost"] for point in points]
    low = [max(0.0, point["finish_s"] - point["finish_low_s"]) / scale for point in points]
    high = [max(0.0, point["finish_high_s"] - point["finish_s"]) / scale for point in points]
    axes.errorbar(times, costs, xerr=[low, high], fmt="none", ecolor="#c9d6e4", elinewidth=3, zorder=1)
    axes.plot(times, costs, "-", color="#0072b2", zorder=2)
    axes.plot(times, costs, "o", color="#0072b2", markersize=13, markeredgecolor="white", zorder=3)
    for point, x, y in zip(points, times, costs, strict=True):
        axes.annotate(str(point["number"]), (x, y), ha="center", va="center", color="white", fontsize=7, zorder=4)
    _limits(axes, found, latest_s, scale, max(costs))
    axes.set_xlabel(f"expected finish, {unit} from now (bar: 10 % to 90 %)")
    axes.set_ylabel("expected cost")
    axes.set_xlim(left=0)
    spread = max(costs) - min(costs) or max(costs) or 1.0
    bottom, top = max(0.0, min(costs) - 0.4 * spread), max(costs) + 0.15 * spread
    axes.set_ylim(bottom - 0.05 * (top - bottom), top)  # a plan that costs nothing is seen as a whole
    axes.grid(alpha=0.3)


def _limits(axes: Axes, found: Mapping[str, Any], latest_s: float, scale: float, dearest: float) -> None:
    """The deadline and the budget, where they are near enough to matter."""
    due_s = _seconds_left(found)
    if due_s is not None and 0 < due_s < 1.5 * latest_s:
        axes.axvline(due_s / scale, color="#d55e00", linestyle="--", label="deadline")
    if found["budget"] is not None and found["budget"] < 1.1 * dearest:
        axes.axhline(found["budget"], color="#009e73", linestyle="--", label="budget")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper right", frameon=False)


def _seconds_left(found: Mapping[str, Any]) -> float | None:
    """Between the moment of the plan and the deadline; the API writes both as ISO 8601."""
    from datetime import datetime

    due, planned = found["deadline"], found["planned_at"]
    if due is None:
        return None
    if isinstance(due, str):
        return (datetime.fromisoformat(due) - datetime.fromisoformat(planned)).total_seconds()
    return float(due) - float(planned)


def _places(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """One bar for each plan, the fastest on top."""
    totals = [resource_totals(point) for point in points]
    names = sorted({name for total in totals for name in total}, key=lambda name: -sum(t.get(name, 0) for t in totals))
    rows = range(len(points))
    start = [0] * len(points)
    for i, name in enumerate(names):
        widths = [total.get(name, 0) for total in totals]
        axes.barh(rows, widths, left=start, color=_COLOURS[i % len(_COLOURS)], label=name, height=0.75)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    axes.set_yticks(rows, [str(point["number"]) for point in points])
    axes.set_ylim(max(len(points), _LEAST_ROWS) - 0.5, -0.5)
    axes.set_ylabel("plan")
    axes.set_xlabel("tasks")
    axes.locator_params(axis="x", integer=True)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(names)), frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def resource_totals(point: Mapping[str, Any]) -> dict[str, int]:
    """Tasks of all steps by resource."""
    tasks: dict[str, int] = {}
    for by_resource in point["places"].values():
        for resource, n in by_resource.items():
            tasks[resource] = tasks.get(resource, 0) + n
    return tasks
