"""`airavata config`: what is remembered between commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption
from airavata_scheduler.cli.output import print_fields
from airavata_scheduler.cli.session import Session
from airavata_scheduler.client.errors import NotFoundError
from airavata_scheduler.client.target import CONFIG_KEYS, absolute, read_config, write_config

config_app = typer.Typer(
    short_help="Remember settings of the command.",
    help="Remember settings of the command. Keys: "
    + "; ".join(f"{key} ({what})" for key, what in CONFIG_KEYS.items())
    + ".",
    no_args_is_help=True,
)
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help=f"One of {', '.join(CONFIG_KEYS)}.")]


def _directory(session: Session) -> Path:
    chosen = os.environ.get("AIRAVATA_CONFIG_DIR")
    home = session.home or os.environ.get("AIRAVATA_HOME") or "~/.airavata"
    return absolute(chosen) if chosen else absolute(home) / "client"


def _known(key: str) -> str:
    if key not in CONFIG_KEYS:
        raise typer.BadParameter(f"{key!r} is not a setting; use one of {', '.join(CONFIG_KEYS)}", param_hint="KEY")
    return key


@config_app.command("set")
def set_value(
    context: typer.Context,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What it is from now on; empty forgets it.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a value."""
    session = Session(context, home, as_json)
    directory = _directory(session)
    values = {**read_config(directory), _known(key): value}
    path = write_config(directory, {name: kept for name, kept in values.items() if kept})
    session.say(f"{key} = {value or '(nothing)'} in {path}")
    session.result({key: value})


@config_app.command()
def get(context: typer.Context, key: KeyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print one value; exit code 5 if it is not set."""
    session = Session(context, home, as_json)
    value = read_config(_directory(session)).get(_known(key))
    if value is None:
        raise NotFoundError(f"{key} is not set", remedy=f"set it with `{session.hint('config', 'set', key, 'VALUE')}`")
    if not as_json:
        print(value)
    session.result({key: value})


@config_app.command()
def show(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print all values, and the file they are in."""
    session = Session(context, home, as_json)
    directory = _directory(session)
    values = read_config(directory)
    if not as_json:
        print_fields({"file": directory / "config.json", **values})
    session.result(values)
