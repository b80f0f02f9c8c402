"""Submitting and following: `run validate schema start watch`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from airavata_scheduler.cli.experiment_plan import describe_point, point_of, show_plan
from airavata_scheduler.cli.options import (
    FileArgument,
    HomeOption,
    JsonOption,
    ParamOption,
    ProjectOption,
    RunArgument,
    WatchOption,
    parse_pairs,
    read_document,
)
from airavata_scheduler.cli.output import amounts, print_table
from airavata_scheduler.cli.session import Session
from airavata_scheduler.cli.watching import load_what_watching_needs, watch_until_end


def register_running(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, validate, schema, start, watch):
        app.command()(command)


def run(
    context: typer.Context,
    file: FileArgument,
    param: ParamOption = None,
    project: ProjectOption = None,
    watch: WatchOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="Check the document and show what it amounts to, and its plan."),
    ] = False,
    plan: Annotated[
        int | None,
        typer.Option(
            "--plan",
            metavar="N",
            min=1,
            help="Take plan N of the frontier of cost and time: its weights, and a budget of 5 % more than it costs; "
            "see `airavata experiment plan`.",
            show_default=False,
        ),
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", metavar="", help="Store it without starting it.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit an experiment document.

    With --watch the exit code is 0 if it succeeded and 7 if not; a document that is not valid ends with 6.
    """
    session = Session(context, home, as_json)
    if watch and draft:
        raise typer.BadParameter("a draft does not run, so there is nothing to watch", param_hint="--watch")
    document, parameters = read_document(file), parse_pairs(param)
    point = None
    if plan is not None:
        found = session.client.plan(document, frontier=True, project=project, parameters=parameters)
        point = point_of(found, plan)
        session.say(describe_point(point))
    if dry_run:
        _dry_run(session, document, project, parameters, point)
        return
    if watch:
        load_what_watching_needs(session)
    submitted = session.client.submit(document, project=project, parameters=parameters, start=not draft, point=point)
    state = submitted.state
    session.say(f"Experiment {state['id']} ({state['name']}, {state['tasks']['total']} tasks) is {state['status']}.")
    if watch:
        watch_until_end(session, submitted)
        return
    words = ("experiment", "start" if draft else "watch", submitted.id)
    session.say(f"{'Start' if draft else 'Watch'} it with: {session.hint(*words)}")
    session.result({"id": state["id"], "status": state["status"]})


def validate(
    context: typer.Context,
    file: FileArgument,
    param: ParamOption = None,
    project: ProjectOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a document: every problem at once, with its place and a remedy. Runs and stores nothing."""
    session = Session(context, home, as_json)
    found = session.client.validate(read_document(file), project=project, parameters=parse_pairs(param))
    _show_validation(session, found)
    session.result(found)


def _dry_run(
    session: Session,
    document: Path | str,
    project: str | None,
    parameters: dict[str, str],
    point: Mapping[str, Any] | None,
) -> None:
    found = session.client.validate(document, project=project, parameters=parameters)
    planned = session.client.plan(document, project=project, parameters=parameters, point=point)
    _show_validation(session, found)
    if not session.as_json:
        session.say()
        show_plan(session, planned)
    session.result({**found, "plan": planned})


def schema(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.", show_default=False)
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of the document, for editors and checkers."""
    session = Session(context, home, as_json)
    found = session.client.schema()
    if output:
        output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        session.say(f"The schema is in {output}.")
        session.result({"output": str(output)})
    elif as_json:
        session.result(found)
    else:
        print(json.dumps(found, indent=2))


def start(
    context: typer.Context,
    experiment: RunArgument,
    watch: WatchOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a draft."""
    session = Session(context, home, as_json)
    started = session.run(experiment).start()
    if watch:
        watch_until_end(session, started)
        return
    session.say(f"Experiment {started.id} is {started.state['status']}.")
    session.result({"id": started.id, "status": started.state["status"]})


def watch(
    context: typer.Context, experiment: RunArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show progress until it has ended; a restart of the platform is waited out.

    Ctrl-C ends the watching only. Exit code 0 if it succeeded, 7 if not.
    """
    session = Session(context, home, as_json)
    watch_until_end(session, session.patient_run(experiment))


def _show_validation(session: Session, found: dict[str, Any]) -> None:
    session.say(f"{found['name']}: the document is valid and makes {found['n_tasks']} tasks.")
    for warning in found.get("warnings") or ():
        session.say(f"  note: {warning}")
    if not session.as_json:
        takes = {"EACH TASK TAKES": lambda step: amounts(step["request"])}
        columns = {"STEP": "name", "TASKS": "n", "NEEDS": "needs", **takes, "FIRST TASK": "first"}
        print_table(found["steps"], columns, empty="It has no steps.")
