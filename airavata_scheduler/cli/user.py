"""`airavata user`: the people who use the platform."""

from __future__ import annotations

from typing import Annotated

import typer

from airavata_scheduler.cli.auth import PasswordFromStdin, ask_password
from airavata_scheduler.cli.options import HomeOption, JsonOption, YesOption
from airavata_scheduler.cli.output import moment, print_fields, print_table
from airavata_scheduler.cli.session import Session

user_app = typer.Typer(help="Users. Making, listing and removing them is for admins.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
FullName = Annotated[str | None, typer.Option("--full-name", metavar="TEXT", help="Name to show.", show_default=False)]
Email = Annotated[str | None, typer.Option("--email", metavar="ADDRESS", help="Address for mail.", show_default=False)]


@user_app.command("list")
def list_users(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the users."""
    session = Session(context, home, as_json)
    rows = session.client.users.list()
    if not as_json:
        columns = {"NAME": "name", "FULL NAME": "full_name", "EMAIL": "email", "ADMIN": "admin", "DISABLED": "disabled"}
        print_table(rows, columns, empty="There is no user.")
    session.result({"items": rows})


@user_app.command()
def get(context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one user."""
    session = Session(context, home, as_json)
    _show(session, session.client.users.get(name))


@user_app.command()
def profile(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show yourself."""
    session = Session(context, home, as_json)
    _show(session, session.client.whoami())


@user_app.command()
def create(
    context: typer.Context,
    name: NameArgument,
    full_name: FullName = None,
    email: Email = None,
    admin: Annotated[bool, typer.Option("--admin", metavar="", help="May do everything.")] = False,
    password_stdin: PasswordFromStdin = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a user; asks for the password."""
    session = Session(context, home, as_json)
    password = ask_password(password_stdin, f"Password of {name}", confirm=True)
    row = session.client.users.create(name, password, full_name=full_name, email=email, admin=admin)
    session.say(f"User {name} is there.")
    session.result(row)


@user_app.command()
def update(
    context: typer.Context,
    name: NameArgument,
    full_name: FullName = None,
    email: Email = None,
    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", metavar="", help="May do everything.", show_default=False)
    ] = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", metavar="", help="Whether logging in is refused.", show_default=False),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a user."""
    session = Session(context, home, as_json)
    changes = {"full_name": full_name, "email": email, "admin": admin, "disabled": disabled}
    row = session.client.users.update(name, **{key: value for key, value in changes.items() if value is not None})
    session.say(f"User {name} is changed.")
    session.result(row)


@user_app.command()
def password(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[USER]", help="Default: yourself.", show_default=False)] = None,
    password_stdin: PasswordFromStdin = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a password. With --password-stdin: your present one on the first line, the new one on the second.

    An admin who changes that of somebody else gives the new one only.
    """
    session = Session(context, home, as_json)
    me = session.client.whoami()["name"]
    who = name or me
    old = ask_password(password_stdin, "Present password") if who == me else None
    new = ask_password(password_stdin, f"New password of {who}", confirm=True)
    session.client.users.set_password(who, new, old)
    session.say(f"The password of {who} is changed.")
    session.result({"name": who})


@user_app.command()
def delete(
    context: typer.Context,
    name: NameArgument,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a user."""
    session = Session(context, home, as_json)
    session.confirm(f"Remove user {name}?", yes)
    session.client.users.delete(name)
    session.say(f"User {name} is removed.")
    session.result({"name": name, "deleted": True})


def _show(session: Session, row: dict[str, object]) -> None:
    if not session.as_json:
        print_fields({**row, "created_at": moment(row.get("created_at"))})
    session.result(row)
