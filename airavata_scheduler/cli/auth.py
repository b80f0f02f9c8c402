"""`airavata auth`: who you are to the platform."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption
from airavata_scheduler.cli.output import print_fields
from airavata_scheduler.cli.session import Session

auth_app = typer.Typer(
    help="Log in and out. On the machine of the platform its owner is the admin without logging in.",
    no_args_is_help=True,
)

PasswordFromStdin = Annotated[
    bool, typer.Option("--password-stdin", metavar="", help="Read the password from standard input instead of asking.")
]


def ask_password(from_stdin: bool, prompt: str = "Password", confirm: bool = False) -> str:
    """A password that never appears on a command line. Exits with a usage error when it is empty."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    if not password:
        raise typer.BadParameter("the password is empty", param_hint="--password-stdin")
    return str(password)


@auth_app.command()
def login(
    context: typer.Context,
    username: Annotated[str, typer.Option("--username", "-u", metavar="NAME", prompt=True, help="Your user name.")],
    password_stdin: PasswordFromStdin = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Log in; later commands act as this user."""
    session = Session(context, home, as_json)
    session.client.transport.login(username, ask_password(password_stdin))
    session.say(f"Logged in to {session.client.url} as {username}.")
    session.result({"username": username, "url": session.client.url})


@auth_app.command()
def logout(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Revoke and forget the tokens of this machine."""
    session = Session(context, home, as_json)
    username = session.client.transport.logout()
    session.say(f"Logged out {username}." if username else "Nobody was logged in.")
    session.result({"username": username})


@auth_app.command()
def status(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show which platform is used, and as whom."""
    session = Session(context, home, as_json)
    user = session.client.whoami()
    if not as_json:
        print_fields({"platform": session.client.url, **user})
    session.result({"url": session.client.url, "user": user})
