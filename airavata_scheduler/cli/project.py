"""`airavata project`: groups of experiments that several users share."""

from __future__ import annotations

from typing import Annotated

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption, YesOption
from airavata_scheduler.cli.output import moment, print_fields, print_table
from airavata_scheduler.cli.session import Session

project_app = typer.Typer(help="Projects, and who belongs to them.", no_args_is_help=True)
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Name of the project.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
Description = Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is for.")]


@project_app.command("list")
def list_projects(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the projects that you belong to."""
    session = Session(context, home, as_json)
    rows = session.client.projects.list()
    if not as_json:
        columns = {"NAME": "name", "OWNER": "owner", "MEMBERS": lambda row: len(row.get("members") or {})}
        print_table(rows, {**columns, "DESCRIPTION": "description"}, empty="There is no project.")
    session.result({"items": rows})


@project_app.command()
def get(context: typer.Context, name: ProjectArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one project."""
    session = Session(context, home, as_json)
    row = session.client.projects.get(name)
    if not as_json:
        print_fields({**row, "created_at": moment(row.get("created_at"))})
    session.result(row)


@project_app.command()
def create(
    context: typer.Context,
    name: ProjectArgument,
    description: Description = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project that belongs to you."""
    session = Session(context, home, as_json)
    row = session.client.projects.create(name, description)
    session.say(f"Project {row['name']} is there.")
    session.result(row)


@project_app.command()
def update(
    context: typer.Context,
    name: ProjectArgument,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it is for.")] = None,
    weight: Annotated[
        float | None, typer.Option("--weight", metavar="X", help="Its share where projects compete.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the description or the weight."""
    session = Session(context, home, as_json)
    changes = {"description": description, "weight": weight}
    row = session.client.projects.update(name, **{key: value for key, value in changes.items() if value is not None})
    session.say(f"Project {name} is changed.")
    session.result(row)


@project_app.command()
def delete(
    context: typer.Context,
    name: ProjectArgument,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a project without experiments."""
    session = Session(context, home, as_json)
    session.confirm(f"Remove project {name}?", yes)
    session.client.projects.delete(name)
    session.say(f"Project {name} is removed.")
    session.result({"name": name, "deleted": True})


@project_app.command()
def members(
    context: typer.Context, name: ProjectArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List the members of a project and their roles."""
    session = Session(context, home, as_json)
    found = session.client.projects.get(name).get("members") or {}
    rows = [{"user": user, "role": role} for user, role in sorted(found.items())]
    if not as_json:
        print_table(rows, {"USER": "user", "ROLE": "role"}, empty="Nobody but its owner.")
    session.result({"items": rows})


@project_app.command("add-member")
def add_member(
    context: typer.Context,
    name: ProjectArgument,
    user: UserArgument,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="owner, editor or viewer.")] = "editor",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a user in, or change the role."""
    session = Session(context, home, as_json)
    session.client.projects.add_member(name, user, role)
    session.say(f"{user} is {role} of {name}.")
    session.result({"project": name, "user": user, "role": role})


@project_app.command("remove-member")
def remove_member(
    context: typer.Context,
    name: ProjectArgument,
    user: UserArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a user out."""
    session = Session(context, home, as_json)
    session.client.projects.remove_member(name, user)
    session.say(f"{user} no longer belongs to {name}.")
    session.result({"project": name, "user": user, "role": None})
