"""Options and arguments that many commands share, so that they read the same everywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Directory of the platform. Default: AIRAVATA_HOME, else ~/.airavata.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one line of JSON; everything else goes to standard error.")
]
RunArgument = Annotated[
    str, typer.Argument(metavar="ID", help="An experiment: its id, the beginning of it, or `last` for the newest.")
]
FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="The experiment document, YAML or JSON; `-` reads standard input.")
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="NAME=VALUE",
        help="Replace a parameter of the document. May be repeated.",
        show_default=False,
    ),
]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="NAME", help="The project. Default: `airavata config set project`.", show_default=False
    ),
]
StepOption = Annotated[str | None, typer.Option("--step", metavar="NAME", help="Of one step only.", show_default=False)]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", metavar="", help="Show progress until it has ended.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; shown to everybody who looks.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]


def parse_pairs(pairs: list[str] | None, option: str = "--param") -> dict[str, str]:
    """`NAME=VALUE` options as a mapping; a usage error names the one that is none."""
    parsed: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint=option)
        parsed[name.strip()] = value
    return parsed


def read_document(file: str) -> Path | str:
    """The file, or the text on standard input; a usage error if there is no such file."""
    if file == "-":
        return sys.stdin.read()
    path = Path(file)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise typer.BadParameter(f"{file} {what}", param_hint="FILE")
    return path
