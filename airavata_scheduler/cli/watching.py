"""Showing an experiment until it has ended, and what is said then."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer

from airavata_scheduler.cli.failures import FINISHED_WITH_FAILURES, INTERRUPTED
from airavata_scheduler.cli.session import Session

if TYPE_CHECKING:
    from airavata_scheduler.client import Run

_COUNTED = ("total", "succeeded", "failed", "canceled", "skipped")


def load_what_watching_needs(session: Session) -> None:
    """Before the submission, as afterwards it would take the processor from the first tasks."""
    for module in ("websockets.sync.client", *(["rich.live"] if session.human.isatty() else [])):
        import_module(module)


def watch_until_end(session: Session, run: Run) -> None:
    """Show progress, then the end; exits with 7 unless it succeeded, and with 130 on Ctrl-C, which ends nothing."""
    from airavata_scheduler.client.progress import progress_view

    if run.state["status"] == "DRAFT":
        raise typer.BadParameter(
            f"{run.id} is a draft that does not run; start it with `{session.hint('experiment', 'start', run.id)}`",
            param_hint="ID",
        )
    try:
        with progress_view(file=session.human) as view:
            for state in run.follow(view.notice):
                view.show(state)
    except KeyboardInterrupt:
        session.say(f"\nExperiment {run.id} goes on. Watch it again with:")
        session.say(f"  {session.hint('experiment', 'watch', run.id)}")
        session.result({"id": run.id, "status": run.state["status"], "interrupted": True})
        raise typer.Exit(INTERRUPTED) from None
    _say_what_next(session, run)
    session.result(final_line(run.state))
    if run.state["status"] != "SUCCEEDED":
        raise typer.Exit(FINISHED_WITH_FAILURES)


def final_line(state: Mapping[str, Any]) -> dict[str, Any]:
    """The line that programs read at the end."""
    counts = {key: state["tasks"].get(key, 0) for key in _COUNTED}
    return {"id": state["id"], "status": state["status"], "tasks": counts, "wall_s": state.get("wall_s")}


def _say_what_next(session: Session, run: Run) -> None:
    if run.state["status"] == "SUCCEEDED":
        session.say(f"Results: {session.hint('experiment', 'results', run.id, '--output', 'results.parquet')}")
    else:
        session.say(f"Why: {session.hint('experiment', 'explain', run.id)}")
        session.say(f"     {session.hint('experiment', 'tasks', run.id, '--state', 'failed')}")
