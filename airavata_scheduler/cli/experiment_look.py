"""Looking: `list status tasks task logs explain`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption, RunArgument, StepOption
from airavata_scheduler.cli.output import moment, print_fields, print_table, size
from airavata_scheduler.cli.session import Session

TaskArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID[/STEP[/INDEX]]", help="An experiment (`last` for the newest), step or task, in one word."
    ),
]
StepArgument = Annotated[str | None, typer.Argument(metavar="[STEP]", help="Name of the step.", show_default=False)]
IndexArgument = Annotated[
    int | None, typer.Argument(metavar="[INDEX]", help="Number of the task, from 0.", show_default=False)
]
AttemptOption = Annotated[
    int | None, typer.Option("--attempt", metavar="N", help="Of this attempt. Default: the latest.", show_default=False)
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")]


def register_looking(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_experiments)
    for command in (status, tasks, task, logs, explain):
        app.command()(command)


def list_experiments(
    context: typer.Context,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="In this project.", show_default=False)] = None,
    owner: Annotated[str | None, typer.Option(metavar="USER", help="Of this user.", show_default=False)] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="RUNNING, SUCCEEDED, ...; may be repeated.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With this text in the name.", show_default=False)
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="With this tag.", show_default=False)] = None,
    limit: LimitOption = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List experiments, the newest first."""
    session = Session(context, home, as_json)
    wanted = [value.upper() for value in status] if status else None
    found = session.client.experiments(limit=limit, project=project, owner=owner, status=wanted, name=name, tag=tag)
    rows = list(found)
    if not as_json:
        columns: dict[str, Any] = {"ID": "id", "NAME": "name", "STATUS": "status", "TASKS": _done, "PROJECT": "project"}
        columns |= {"OWNER": "owner", "CREATED": lambda row: moment(row.get("created_at"))}
        print_table(rows, columns, empty="There is no such experiment.")
    session.result({"items": rows})


def status(
    context: typer.Context, experiment: RunArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show the state of an experiment and of its steps."""
    session = Session(context, home, as_json)
    state = session.run(experiment).state
    if not as_json:
        _print_experiment(state)
    session.result(state)


def tasks(
    context: typer.Context,
    experiment: RunArgument,
    step: StepOption = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="failed, running, ...; may be repeated.", show_default=False),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --state failed.")] = False,
    limit: LimitOption = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tasks with their parameters."""
    session = Session(context, home, as_json)
    states = [*(state or ()), *(["failed"] if failed else [])]
    rows = list(session.run(experiment).tasks(step, states or None, limit))
    if not as_json:
        columns = {"STEP": "step", "INDEX": "index", "STATE": "state", "ATTEMPT": "attempt", "PARAMETERS": "parameters"}
        print_table(rows, {**columns, "WHY": _why}, empty="There is no such task.")
    session.result({"items": rows})


def task(
    context: typer.Context,
    experiment: TaskArgument,
    step: StepArgument = None,
    index: IndexArgument = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one task with all of its attempts: ID STEP INDEX, or ID/STEP/INDEX."""
    session = Session(context, home, as_json)
    name, step, index = one_task(experiment, step, index)
    row = session.run(name).task(step, index)
    if not as_json:
        _print_task(row)
    session.result(row)


def logs(
    context: typer.Context,
    experiment: TaskArgument,
    step: StepArgument = None,
    index: IndexArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on until the task has ended.")] = False,
    stderr: Annotated[
        bool, typer.Option("--stderr", metavar="", help="Standard error instead of standard output.")
    ] = False,
    attempt: AttemptOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a task wrote: ID STEP INDEX, or ID/STEP/INDEX."""
    session = Session(context, home, as_json)
    name, step, index = one_task(experiment, step, index)
    found, stream = session.run(name), "stderr" if stderr else "stdout"
    pieces = found.log_chunks(step, index, stream=stream, attempt=attempt, follow=follow)
    out = sys.stderr.buffer if as_json else sys.stdout.buffer
    text = b""
    for piece in pieces:
        if as_json:
            text += piece
        if not as_json or follow:
            out.write(piece)
            out.flush()
    session.result({"step": step, "index": index, "stream": stream, "text": text.decode("utf-8", errors="replace")})


def explain(
    context: typer.Context,
    experiment: TaskArgument,
    step: StepArgument = None,
    index: IndexArgument = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why an experiment, a step or a task waits, or how it ended."""
    session = Session(context, home, as_json)
    name, step, index = split_task(experiment, step, index)
    found = session.run(name).explain(step, index)
    if not as_json:
        _print_explanation(found)
    session.result(found)


def split_task(experiment: str, step: str | None, index: int | None) -> tuple[str, str | None, int | None]:
    """The parts of `ID/STEP/INDEX`, or of three arguments; a usage error if they do not fit together."""
    name, *rest = experiment.split("/")
    if len(rest) > 2 or (rest and step is not None) or not all([name, *rest]):
        raise typer.BadParameter(f"{experiment!r} is not ID, ID/STEP or ID/STEP/INDEX", param_hint="ID")
    if len(rest) == 2:
        try:
            index = int(rest[1])
        except ValueError:
            raise typer.BadParameter(f"{rest[1]!r} is not the number of a task", param_hint="INDEX") from None
    return name, rest[0] if rest else step, index


def one_task(experiment: str, step: str | None, index: int | None) -> tuple[str, str, int]:
    """The same where a single task is meant."""
    name, found_step, found_index = split_task(experiment, step, index)
    if found_step is None or found_index is None:
        raise typer.BadParameter("write ID STEP INDEX or ID/STEP/INDEX", param_hint="STEP, INDEX")
    return name, found_step, found_index


def _done(row: dict[str, Any]) -> str:
    from airavata_scheduler.client.progress import ended, total

    failed = row["tasks"].get("failed", 0)
    return f"{ended(row['tasks'])}/{total(row['tasks'])}" + (f" ({failed} failed)" if failed else "")


def _why(row: dict[str, Any]) -> str:
    return ": ".join(part for part in (row.get("cause"), row.get("message")) if part)


def _print_experiment(state: dict[str, Any]) -> None:
    from airavata_scheduler.client.progress import duration, summary_line

    print(f"{state['name']}  {state['id']}\n{summary_line(state)}\n")
    times = {
        key: moment(state.get(f"{key}_at")) for key in ("created", "started", "finished") if state.get(f"{key}_at")
    }
    limits = {
        key: state.get(key)
        for key in ("priority", "deadline", "hard_deadline", "budget", "derived_from", "description", "tags")
    }
    used = {"cost": state.get("cost"), "CPU time": duration(state.get("cpu_s") or 0.0)}
    print_fields({"project": state.get("project"), "owner": state.get("owner"), **times, **used, **limits})
    print()
    columns: dict[str, Any] = {"STEP": "name", "TASKS": "n", "NEEDS": "needs"}
    for key in ("pending", "ready", "running", "succeeded", "failed", "skipped", "canceled"):
        columns[key.upper()] = lambda row, key=key: row["tasks"].get(key, 0)
    print_table(state.get("steps") or [], columns, empty="It has no steps.")


def _print_task(row: dict[str, Any]) -> None:
    from airavata_scheduler.client.progress import duration

    shown = ("step", "index", "state", "attempt", "parameters", "worker", "resource", "cause", "message")
    print_fields({"experiment": row.get("experiment"), **{key: row.get(key) for key in shown}})
    print()
    columns: dict[str, Any] = {"ATTEMPT": "attempt", "STATE": "state", "EXIT": "exit_code", "SIGNAL": "signal"}
    columns |= {"WALL": lambda a: duration(a.get("wall_s") or 0.0), "CPU": lambda a: duration(a.get("cpu_s") or 0.0)}
    columns |= {"MEMORY": lambda a: size(a.get("peak_memory_bytes") or 0), "WORKER": "worker", "WHY": _why}
    print_table(row.get("attempts") or [], columns, empty="It has not been tried yet.")


def _print_explanation(found: dict[str, Any]) -> None:
    print(f"{found['subject']} is {found['state']}: {found['summary']}")
    for reason in found.get("reasons") or ():
        print(f"  - {reason}")
    for verdict in found.get("resources") or ():
        print(f"  {'fits' if verdict['feasible'] else 'does not fit'} {verdict['resource']}: {verdict['reason']}")
    if found.get("position") is not None:
        print(f"  {found['position']} tasks are served earlier")
    if found.get("expected_start"):
        print(f"  expected to start at {moment(found['expected_start'])}")
    if found.get("remedy"):
        print(f"What to do: {found['remedy']}")
