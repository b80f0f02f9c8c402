"""Starting, stopping and looking at the platform of this machine: `up`, `down`, `status`, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption, parse_pairs
from airavata_scheduler.cli.output import print_fields, print_table
from airavata_scheduler.cli.session import Session

if TYPE_CHECKING:
    from airavata_scheduler.launcher.commands import Stage, UpResult
    from airavata_scheduler.settings import Settings

DatabaseUrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Use this PostgreSQL instead of the embedded one; better set DATABASE_URL.",
        show_default=False,
    ),
]
NamedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--named",
        metavar="NAME=AMOUNT",
        help="A licence or the like that tasks can ask for. May be repeated.",
        show_default=False,
    ),
]


def register_lifecycle(app: typer.Typer) -> None:
    """Add the four commands."""
    for command in (up, down, status, doctor):
        app.command()(command)


def up(
    context: typer.Context,
    http_port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of the API. Default: 8700.", show_default=False)
    ] = None,
    http_host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Where the API listens. Default: 127.0.0.1.", show_default=False),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(metavar="N", help="Cores for tasks. Default: all.", show_default=False)
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(metavar="N", help="GPUs for tasks. Default: all.", show_default=False)
    ] = None,
    named: NamedOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", metavar="", help="Return when it runs; end it with `airavata down`.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Join this Ray cluster instead of starting one.", show_default=False),
    ] = None,
    database_url: DatabaseUrlOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the platform, or find it running.

    Without --detach it stays until Ctrl-C and then ends what it started. What runs already goes on as it is.
    """
    from airavata_scheduler.launcher import commands
    from airavata_scheduler.settings import Settings

    session = Session(context, home, as_json)
    given: dict[str, Any] = {
        "http_port": http_port,
        "http_host": http_host,
        "cpus": cpus,
        "gpus": gpus,
        "named": parse_pairs(named, "--named") or None,
        "ray_address": ray_address,
        "database_url": database_url,
    }
    settings = Settings.load(home=session.home, **given)
    session.say(f"Starting the platform in {settings.home}")
    result = commands.up(settings, detach=True, progress=_shown(session))
    _announce(session, result)
    if result.already_running:
        _say_what_stays(session, settings, [name for name, value in given.items() if value is not None])
    elif not detach:
        session.say("\nIt runs until Ctrl-C.")
        try:
            commands.up(settings, detach=False)
        except KeyboardInterrupt:  # before it had begun to wait for it
            commands.down(settings.home)
        session.say("Stopped.")


def down(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End the platform: exactly what `airavata up` started.

    Experiments that are not finished go on after the next `airavata up`.
    """
    from airavata_scheduler.launcher import commands

    session = Session(context, home, as_json)
    ended = commands.down(_home(session)).ended
    session.say(f"Ended {len(ended)} processes." if ended else "Nothing was running.")
    session.result({"ended": ended})


def status(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", metavar="", help="Exit with 4 unless everything is healthy.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether the platform of this machine works, with its processes and workers."""
    from airavata_scheduler.launcher.status import status as look

    session = Session(context, home, as_json)
    state = look(_home(session))
    if as_json:
        session.result(state)
    else:
        _print_status(state)
    if check and not state["healthy"]:
        raise typer.Exit(4)


def doctor(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check this machine and installation, and say what to do.

    Versions, ports, token, database, disk, shared memory and clock are looked at; exit code 1 if one is not right.
    """
    from airavata_scheduler.launcher import commands

    session = Session(context, home, as_json)
    checks = commands.doctor(_home(session))
    marks = {True: "ok  ", False: "BAD ", None: "note"}
    for check in checks:
        session.say(f"{marks[check.ok]}  {check.name}: {check.found}")
        if not check.ok and check.remedy:
            session.say(f"      -> {check.remedy}")
    good = not any(check.ok is False for check in checks)
    rows = [{"name": c.name, "ok": c.ok, "found": c.found, "remedy": c.remedy} for c in checks]
    session.result({"ok": good, "checks": rows})
    if not good:
        raise typer.Exit(1)


def _home(session: Session) -> Path:
    from airavata_scheduler.settings import default_home

    return session.home or default_home()


def _shown(session: Session) -> Any:
    """Progress of the start: a line that is written over on a terminal, lines elsewhere."""
    out = session.human

    def show(stage: Stage) -> None:
        line = f"{stage.elapsed_s:5.1f} s  {stage.text}"
        if out.isatty():
            print(f"\r\x1b[K{line[:100]}", end="", file=out, flush=True)
        else:
            print(line, file=out, flush=True)

    return show


def _say_what_stays(session: Session, wanted: Settings, given: list[str]) -> None:
    """A platform that ran already has the settings it was started with, whatever was asked for now."""
    from airavata_scheduler.settings import Settings

    active = Settings.from_run(wanted.home)
    kept = [f"--{name.replace('_', '-')}" for name in given if getattr(active, name) != getattr(wanted, name)]
    if kept:
        down = session.hint("down")
        session.say(f"\nIt keeps the settings it was started with. For another {', '.join(kept)}: first `{down}`.")


def _announce(session: Session, result: UpResult) -> None:
    if session.human.isatty():
        print("\r\x1b[K", end="", file=session.human)
    state = "was running already" if result.already_running else f"is up after {result.took_s:.1f} s"
    session.say(f"The platform {state}.\n")
    where = {
        "API": f"{result.url}/api/v1",
        "Ray dashboard": result.dashboard_url,
        "admin credentials": result.admin_credentials_file,
        "logs": result.home / "log",
    }
    print_fields(where, file=session.human)
    session.say("\nNext:")
    for words in (("experiment", "run", "FILE", "--watch"), ("status",), ("down",)):
        session.say(f"  {session.hint(*words)}")
    session.result(
        {
            "url": result.url,
            "home": str(result.home),
            "dashboard_url": result.dashboard_url,
            "admin_credentials_file": str(result.admin_credentials_file),
            "already_running": result.already_running,
            "took_s": round(result.took_s, 2),
        }
    )


def _print_status(state: dict[str, Any]) -> None:
    print_fields({name: state.get(name) for name in ("healthy", "version", "home", "url")}, file=sys.stdout)
    for problem in state.get("problems", ()):
        print(f"  ! {problem}")
    print()
    print_table(
        state["processes"], {"PROCESS": "name", "ROLE": "role", "PID": "pid"}, empty="No process of this platform runs."
    )
    if state["workers"]:
        print()
        print_table(state["workers"], {"WORKER": "name", "PID": "pid", "RUNNING": "running"}, empty="")
