"""Writes `docs/cli.md` from the command itself: `python -m airavata_scheduler.cli.reference [--check]`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from airavata_scheduler.cli.failures import EXIT_CODES
from airavata_scheduler.cli.main import app

TARGET = Path(__file__).resolve().parents[2] / "docs" / "cli.md"

_INTRODUCTION = """\
# The `airavata` command

<!-- Written by `make docs` from the command itself: do not edit. -->

From one experiment document to a results table:

```
airavata up --detach
airavata experiment run examples/pendulum.yml --watch
airavata experiment results last
airavata experiment results last --output results.parquet
airavata experiment download last --output outputs
airavata down
```

## Everywhere

- **Which platform.** The first of these that is there: `--url` (before the command); the platform that runs in the
  `--home` that is given; `AIRAVATA_SERVER_URL`; what `airavata config set url` wrote; the platform of `AIRAVATA_HOME`,
  or of `~/.airavata`.
- **As whom.** For a platform of this machine: its admin, with the secret that the first start generated, unless
  somebody else has logged in with `airavata auth login`. Elsewhere: `AIRAVATA_TOKEN`, or `airavata auth login`. Tokens
  are kept in `AIRAVATA_CONFIG_DIR` (default: `client/` in the home), for you alone, and refreshed when they end.
- **Which experiment.** Its id, as many characters of its beginning as are unambiguous, or `last` for the newest. A task
  can be written in one word: `last/simulate/17`.
- **`--json`** prints one line of JSON at the end on standard output, and everything for people on standard error. An
  error is `{"error": {"code", "message", "path", "remedy", "request_id"}}`, with `problems` for a document.
- **Without a terminal** the output has no control codes, and progress comes in lines.
- **Ctrl-C** while watching ends the watching; the experiment goes on.
- `AIRAVATA_DEBUG=1` shows where an error came from. `airavata --install-completion` sets up your shell.

## Exit codes

| code | meaning |
|---|---|
"""


def reference() -> str:
    """The whole page."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    root: Any = typer.main.get_command(app)
    sections = "".join(_sections(root, ["airavata"]))
    return f"{_INTRODUCTION}{codes}\n## Options before the command\n\n{_table(root)}\n{sections}".rstrip() + "\n"


def _sections(group: Any, path: list[str]) -> Iterator[str]:
    for name, command in group.commands.items():
        words = [*path, name]
        if hasattr(command, "commands"):
            yield f"## {' '.join(words)}\n\n{_prose(command.help)}\n\n"
            yield from _sections(command, words)
        else:
            level = "##" if len(words) == 2 else "###"
            yield f"{level} {' '.join(words)}\n\n{_prose(command.help)}\n\n"
            yield f"```\n{_usage(command, words)}\n```\n\n{_table(command)}\n"


def _usage(command: Any, words: list[str]) -> str:
    arguments = [_metavar(p) if p.required else f"[{_metavar(p).strip('[]')}]" for p in _arguments(command)]
    return " ".join([*words, *arguments, "[OPTIONS]"])


def _table(command: Any) -> str:
    rows = [f"| `{_metavar(p)}` | {_prose(p.help)} |" for p in _arguments(command)]
    rows += [f"| {_names(p)} | {_prose(p.help)}{_default(p)} |" for p in _options(command)]
    return "\n".join(["| argument or option | meaning |", "|---|---|", *rows]) + "\n"


def _arguments(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "argument"]


def _options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return f"{names} `{option.metavar}`".replace("|", "\\|") if option.metavar else names


def _default(option: Any) -> str:
    value = option.default
    if value is None or callable(value) or isinstance(value, bool) or str(value) in {"", "."} or option.required:
        return ""
    return f" Default: {getattr(value, 'value', value)}."


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("|", "\\|")


def main() -> int:
    """Write the page; with --check only compare, 1 if it is not up to date."""
    page = reference()
    if "--check" in sys.argv[1:]:
        current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
        return 0 if current == page else 1
    TARGET.write_text(page, encoding="utf-8")
    print(f"{TARGET} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
