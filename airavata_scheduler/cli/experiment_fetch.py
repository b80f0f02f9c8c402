"""Fetching: `outputs download results`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption, RunArgument, StepOption
from airavata_scheduler.cli.output import print_table, size
from airavata_scheduler.cli.session import Session

if TYPE_CHECKING:
    from airavata_scheduler.client import Run


class ResultFormat(StrEnum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


def register_fetching(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (outputs, download, results):
        app.command()(command)


def outputs(
    context: typer.Context,
    experiment: RunArgument,
    step: StepOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = 100,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List published outputs with size and checksum."""
    session = Session(context, home, as_json)
    rows = list(session.run(experiment).outputs(step, limit))
    if not as_json:
        columns = {"STEP": "step", "INDEX": "index", "NAME": "name", "SHA-256": lambda row: row["sha256"][:16]}
        print_table(rows, {**columns, "SIZE": lambda row: size(row["size_bytes"])}, empty="There is no output yet.")
    session.result({"items": rows})


def download(
    context: typer.Context,
    experiment: RunArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to; made if it is not there.")
    ] = Path(),
    step: StepOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch all published outputs into DIR/<step>/<index>/..."""
    session = Session(context, home, as_json)
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is not a directory", param_hint="--output")
    run = session.run(experiment)
    done = run.download(output, step=step, progress=_progress(session))
    session.say(f"{done.files} files, {size(done.size_bytes)} in {output}")
    session.result({"id": run.id, "output": str(output), "files": done.files, "size_bytes": done.size_bytes})


def results(
    context: typer.Context,
    experiment: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write it there: .parquet, .csv or .json.", show_default=False
        ),
    ] = None,
    kind: Annotated[
        ResultFormat | None,
        typer.Option(
            "--format",
            metavar="table|csv|parquet|json",
            help="Default: by the ending of FILE, else table.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Rows of a table.")] = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Get the results table: parameters, declared results, timings, usage and cost, one row a task."""
    session = Session(context, home, as_json)
    if output:
        _save(session, session.run(experiment), output, kind)
        return
    chosen = ResultFormat.JSON if as_json else kind or ResultFormat.TABLE
    if chosen is ResultFormat.PARQUET and sys.stdout.isatty():
        raise typer.BadParameter("a terminal cannot show it; add --output FILE.parquet", param_hint="--format")
    run = session.run(experiment)
    if chosen in {ResultFormat.CSV, ResultFormat.PARQUET}:
        sys.stdout.buffer.write(run.results_as(chosen.value))
        sys.stdout.buffer.flush()
        return
    found = json.loads(run.results_as("json"))
    if chosen is ResultFormat.JSON:
        print(json.dumps(found, separators=(",", ":")))
        return
    rows = found["items"]
    print_table(rows[:limit], {name: name for name in _worth_showing(found)}, empty="There are no results yet.")
    if len(rows) > limit:
        print(f"... and {len(rows) - limit} more rows: add --limit, or --output results.parquet")


def _worth_showing(found: dict[str, Any]) -> list[str]:
    """The columns of a table for people: without those that say nothing here, or the same in every row by nature."""
    names = found.get("columns") or list(found["items"][0] if found["items"] else [])
    empty = {name for name in names if all(row.get(name) is None for row in found["items"])}
    return [name for name in names if name not in empty | {"experiment", "started_at", "worker"}]


def _save(session: Session, run: Run, output: Path, kind: ResultFormat | None) -> None:
    chosen = kind.value if kind else output.suffix.removeprefix(".").lower()
    if chosen not in {"parquet", "csv", "json"}:
        raise typer.BadParameter(
            f"{output} must end in .parquet, .csv or .json, or add --format", param_hint="--output"
        )
    path = run.save_results(output, chosen)
    session.say(f"The results are in {path} ({size(path.stat().st_size)}).")
    session.result({"id": run.id, "output": str(path), "format": chosen, "size_bytes": path.stat().st_size})


def _progress(session: Session) -> Callable[[int, int], None]:
    """A counter on a terminal, nothing elsewhere."""
    out, last = session.human, [0.0]

    def show(files: int, size_bytes: int) -> None:
        now = time.monotonic()
        if out.isatty() and now - last[0] > 0.2:
            last[0] = now
            print(f"\r\x1b[K{files} files, {size(size_bytes)}\r", end="", file=out, flush=True)

    return show
