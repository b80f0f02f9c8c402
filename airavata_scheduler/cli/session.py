"""What one command works with: the platform it talks to, and where it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from airavata_scheduler.client import Client, Run


@dataclass(slots=True)
class GlobalOptions:
    """Options that may come before the command."""

    home: Path | None = None
    url: str | None = None


class Session:
    """Made by each command from its options."""

    def __init__(self, context: typer.Context, home: Path | None, as_json: bool = False) -> None:
        given = context.find_root().obj
        options = given if isinstance(given, GlobalOptions) else GlobalOptions()
        self.home = home or options.home
        self.url = options.url
        self.as_json = as_json
        self._told_to_wait = False

    @cached_property
    def client(self) -> Client:
        """The platform, logged in to when first used."""
        # httpx has a command line of its own, which nobody calls here; importing it takes as long as the rest of httpx.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # Python's way to refuse an import
        from airavata_scheduler.client import Client

        client = Client(self.url, self.home)
        client.transport.on_retry = self._on_retry
        return client

    @property
    def human(self) -> TextIO:
        """Where text for people goes: standard output belongs to the JSON when there is any."""
        return sys.stderr if self.as_json else sys.stdout

    def run(self, experiment: str) -> Run:
        """The experiment of an id, a beginning of one, or `last`."""
        return self.client.run(experiment)

    def patient_run(self, experiment: str) -> Run:
        """The same when the platform may be restarting just now."""
        from airavata_scheduler.client.watch import PATIENCE_S

        transport = self.client.transport
        usual_s, transport.patience_s = transport.patience_s, PATIENCE_S
        try:
            return self.run(experiment)
        finally:
            transport.patience_s = usual_s

    def say(self, text: str = "") -> None:
        """A line for people."""
        print(text, file=self.human, flush=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """The answer for programs; nothing without --json."""
        if self.as_json:
            print(json.dumps(value, separators=(",", ":"), default=str), flush=True)

    def hint(self, *words: str) -> str:
        """A command that a person can copy, with the home that is used here."""
        place = ["--home", str(self.home)] if self.home else []
        return " ".join(["airavata", *words, *place])

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before something that cannot be undone; without a terminal `--yes` is needed."""
        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here", param_hint="--yes")
        typer.confirm(question, abort=True, err=True)

    def _on_retry(self, message: str) -> None:
        if not self._told_to_wait:
            print(f"{message}; trying again", file=sys.stderr, flush=True)
            self._told_to_wait = True
