"""Help, reference and start-up time of the command."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer

from airavata_scheduler.cli.main import app, main
from airavata_scheduler.cli.reference import TARGET, reference


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]
    return found


ALL = commands(typer.main.get_command(app))


def test_the_page_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_every_command_takes_home_and_json() -> None:
    for path, command in ALL:
        names = {name for parameter in command.params for name in parameter.opts}
        assert {"--home", "--json"} <= names, path


def test_every_option_and_command_says_what_it_does() -> None:
    for path, command in ALL:
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), (path, parameter.name)


def test_the_commands_of_the_contract_are_there() -> None:
    verbs = {path[1] for path, _ in ALL if path[0] == "experiment"}
    wanted = (
        "run validate schema list status watch tasks task logs explain outputs download results cancel pause resume"
    )
    assert {*wanted.split(), "retry", "resubmit", "derive", "delete"} <= verbs
    assert {"up", "down", "status", "doctor", "auth", "config", "project", "user"} <= {path[0] for path, _ in ALL}


def test_help_and_version_are_not_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["experiment", "--help"], ["--version"]):
        assert main(arguments) == 0
    assert "airavata" in capsys.readouterr().out


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = {"ray", "pyarrow", "pandas", "numpy", "sqlalchemy", "fastapi", "httpx", "pydantic", "websockets", "yaml"}
    program = "import sys, airavata_scheduler.cli.main; print(' '.join(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)
