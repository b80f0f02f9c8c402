"""Changing: `cancel pause resume retry resubmit derive delete`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airavata_scheduler.cli.options import (
    HomeOption,
    JsonOption,
    ParamOption,
    ReasonOption,
    RunArgument,
    WatchOption,
    YesOption,
    parse_pairs,
)
from airavata_scheduler.cli.session import Session
from airavata_scheduler.cli.watching import watch_until_end

if TYPE_CHECKING:
    from airavata_scheduler.client import Run


class Selection(StrEnum):
    """Which tasks a derived experiment takes over."""

    ALL = "all"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


def register_changes(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (cancel, pause, resume, retry, resubmit, derive, delete):
        app.command()(command)


def cancel(
    context: typer.Context,
    experiment: RunArgument,
    reason: ReasonOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an experiment: running processes are ended, what has not finished is canceled."""
    session = Session(context, home, as_json)
    _said(session, session.run(experiment).cancel(reason))


def pause(
    context: typer.Context,
    experiment: RunArgument,
    reason: ReasonOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start no further task of an experiment; running ones go on."""
    session = Session(context, home, as_json)
    _said(session, session.run(experiment).pause(reason))


def resume(
    context: typer.Context,
    experiment: RunArgument,
    budget: Annotated[
        float | None, typer.Option(metavar="AMOUNT", help="With another budget from now on.", min=0, show_default=False)
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="With another deadline: a date, or a duration from now.", show_default=False),
    ] = None,
    watch: WatchOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on after a pause."""
    session = Session(context, home, as_json)
    _said(session, session.run(experiment).resume(budget, deadline), watch=watch)


def retry(
    context: typer.Context,
    experiment: RunArgument,
    watch: WatchOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try again the tasks that failed, and what was skipped because of them."""
    session = Session(context, home, as_json)
    _said(session, session.run(experiment).retry(), watch=watch)


def resubmit(
    context: typer.Context,
    experiment: RunArgument,
    param: ParamOption = None,
    watch: WatchOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the same document again as a new experiment."""
    session = Session(context, home, as_json)
    _said(session, session.run(experiment).resubmit(parse_pairs(param)), watch=watch)


def derive(
    context: typer.Context,
    experiment: RunArgument,
    select: Annotated[
        Selection,
        typer.Option(
            "--select",
            metavar="all|failed|succeeded",
            help="Take over all, only the failed, or only the succeeded tasks.",
        ),
    ] = Selection.ALL,
    param: ParamOption = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--change",
            metavar="PATH=VALUE",
            help="Change the document, such as resources.compute.cpu=2; VALUE is JSON or text. May be repeated.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="Name of the new one.", show_default=False)
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", metavar="", help="Store it without starting it.")] = False,
    watch: WatchOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new experiment from an old one, with changes."""
    session = Session(context, home, as_json)
    if watch and draft:
        raise typer.BadParameter("a draft does not run, so there is nothing to watch", param_hint="--watch")
    changes = merge_patch(parse_pairs(change, "--change"))
    parameters = parse_pairs(param)
    made = session.run(experiment).derive(
        select.value, parameters=parameters, changes=changes, name=name, start=not draft
    )
    _said(session, made, watch=watch)


def delete(
    context: typer.Context,
    experiment: RunArgument,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a finished experiment with its outputs."""
    session = Session(context, home, as_json)
    run = session.run(experiment)
    session.confirm(f"Remove {run.id} ({run.state['name']}) and its outputs?", yes)
    run.delete()
    session.say(f"Experiment {run.id} is removed.")
    session.result({"id": run.id, "deleted": True})


def merge_patch(pairs: dict[str, str]) -> dict[str, Any]:
    """`{"a.b": "2"}` as `{"a": {"b": 2}}`; a value that is not JSON is text, `null` removes."""
    patch: dict[str, Any] = {}
    for path, value in pairs.items():
        *parents, last = path.split(".")
        place = patch
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise typer.BadParameter(
                    f"{path} lies below a value that is set by another --change", param_hint="--change"
                )
        place[last] = _json_or_text(value)
    return patch


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _said(session: Session, run: Run, *, watch: bool = False) -> None:
    state = run.state
    session.say(f"Experiment {state['id']} ({state['name']}) is {state['status']}.")
    if watch:
        watch_until_end(session, run)
    else:
        session.result({"id": state["id"], "status": state["status"]})
