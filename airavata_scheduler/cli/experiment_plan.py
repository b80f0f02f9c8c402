"""Looking ahead: `plan`, and what `run` shows and takes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airavata_scheduler.cli.frontier_picture import draw, resource_totals
from airavata_scheduler.cli.options import (
    FileArgument,
    HomeOption,
    JsonOption,
    ParamOption,
    ProjectOption,
    parse_pairs,
    read_document,
)
from airavata_scheduler.cli.output import moment, print_fields, print_table, size
from airavata_scheduler.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping


def register_planning(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    context: typer.Context,
    file: FileArgument,
    frontier: Annotated[
        bool, typer.Option("--frontier", metavar="", help="Also the plans between the fastest and the cheapest.")
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw the frontier there; needs matplotlib.", show_default=False),
    ] = None,
    param: ParamOption = None,
    project: ProjectOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would run where, until when and for how much, if it were submitted now. Runs and stores nothing.

    Take a plan of the frontier with `airavata experiment run FILE --plan N`.
    """
    if png is not None:
        require_matplotlib()
    session = Session(context, home, as_json)
    wanted = frontier or png is not None
    found = session.client.plan(read_document(file), frontier=wanted, project=project, parameters=parse_pairs(param))
    if not as_json:
        show_plan(session, found)
        if wanted:
            session.say()
            show_frontier(session, found, file)
    if png is not None:
        draw(found, png)
        session.say(f"The picture is in {png}.")
    session.result(found)


def show_plan(session: Session, found: Mapping[str, Any]) -> None:
    """A plan as a person reads it."""
    session.say(f"{found['name']}: {found['n_tasks']} tasks")
    for warning in found.get("warnings") or ():
        session.say(f"  note: {warning}")
    print_fields(_figures(found), session.human)
    session.say()
    columns = {
        "STEP": "name",
        "TASKS": "n",
        "WHERE (AT A TIME)": _where,
        "ONE TASK": lambda step: _range(step["runtime"], "mean_s", "low_s", "high_s"),
        "MEMORY": _memory,
        "SEEN": lambda step: step["runtime"]["n"],
        "NO PLACE": "unplaced",
    }
    print_table(found["steps"], columns, empty="It has no steps.", file=session.human)
    for step in found["steps"]:
        for reason in step["reasons"]:
            session.say(f"  {step['name']}: {reason['text']}")


def show_frontier(session: Session, found: Mapping[str, Any], file: str) -> None:
    """The plans to choose from, and how to take one."""
    points = found["frontier"] or []
    columns = {
        "PLAN": "number",
        "FINISH": lambda p: _seconds(p["finish_s"]),
        "RANGE": lambda p: f"{_seconds(p['finish_low_s'])} to {_seconds(p['finish_high_s'])}",
        "COST": lambda p: f"{p['cost']:.4g}",
        "DATA": lambda p: size(p["moved_bytes"]),
        "DEADLINE RISK": lambda p: "-" if found["deadline"] is None else f"{p['deadline_risk']:.0%}",
        "WHERE": _totals,
    }
    print_table(points, columns, empty="No plan finishes all tasks.", file=session.human)
    if len(points) == 1:
        session.say("One plan is the fastest and the cheapest at once: there is nothing to choose.")
    elif points:
        session.say(f"Take one with: {session.hint('experiment', 'run', file, '--plan', 'N')}")


def point_of(found: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """The plan of that number; a usage error names those there are."""
    points: dict[int, Mapping[str, Any]] = {point["number"]: point for point in found["frontier"] or ()}
    if number not in points:
        there = f"there are 1 to {len(points)}" if points else "no plan finishes all tasks"
        raise typer.BadParameter(f"there is no plan {number}, {there}", param_hint="--plan")
    return points[number]


def describe_point(point: Mapping[str, Any]) -> str:
    """One plan in a sentence."""
    return (
        f"Plan {point['number']}: finish in {_seconds(point['finish_s'])}, cost {point['cost']:.4g}, "
        f"on {_totals(point)}." + ("" if point["budget"] is None else f" It may spend {point['budget']:.4g}.")
    )


def require_matplotlib() -> None:
    """A usage error, before anything is planned, where pictures cannot be drawn."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        remedy = "install it with `pip install 'airavata-scheduler[plot]'`, or use --frontier for the table"
        raise typer.BadParameter(f"pictures need matplotlib, which is not installed: {remedy}", param_hint="--png")


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    budget, deadline = found.get("budget"), found.get("deadline")
    cost = f"{found['cost']:.4g}" + ("" if budget is None else f" of a budget of {budget:.6g}")
    placed, unplaced = found["placed"], found["unplaced"]
    finish = _range(found, "finish_s", "finish_low_s", "finish_high_s")
    if unplaced:
        finish = f"{finish} for the {placed} tasks with a place" if placed else "never, as things are"
    risk = "that tasks without a place miss" if unplaced else f"risk {found['deadline_risk']:.0%}"
    return {
        "expected finish": finish,
        "at": moment(found["finish_at"]) if found["finish_at"] and not unplaced else None,
        "expected cost": cost,
        "data to move": size(found["moved_bytes"]),
        "deadline": None if deadline is None else f"{moment(deadline)}, {risk}",
        "resources": found["resources"],
        "planned": f"{placed} tasks; {unplaced} have no place" if unplaced else None,
    }


def _where(step: Mapping[str, Any]) -> str:
    return ", ".join(f"{p['resource']}: {p['tasks']} ({p['places']})" for p in step["places"]) or "nowhere"


def _memory(step: Mapping[str, Any]) -> str:
    """What the plan counts with, and the range that was seen."""
    memory, planned = step["memory"], step["planned_memory_bytes"]
    seen = "" if memory is None else f" ({size(memory['low_bytes'])} to {size(memory['high_bytes'])})"
    return (size(planned) if planned else "-") + seen


def _totals(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{resource}: {n}" for resource, n in sorted(resource_totals(point).items())) or "nowhere"


def _range(values: Mapping[str, Any], middle: str, low: str, high: str) -> str:
    if values.get(middle) is None:
        return "-"
    return f"{_seconds(values[middle])} ({_seconds(values[low])} to {_seconds(values[high])})"


def _seconds(value: float | None) -> str:
    from airavata_scheduler.client.progress import duration

    if value is None:
        return "-"
    return f"{value * 1000:.3g} ms" if 0 < value < 0.1 else duration(value)
