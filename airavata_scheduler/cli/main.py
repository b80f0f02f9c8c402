"""The `airavata` command: what belongs to it, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from airavata_scheduler import __version__
from airavata_scheduler.cli import failures
from airavata_scheduler.cli.auth import auth_app
from airavata_scheduler.cli.config import config_app
from airavata_scheduler.cli.experiment import experiment_app
from airavata_scheduler.cli.lifecycle import register_lifecycle
from airavata_scheduler.cli.options import HomeOption
from airavata_scheduler.cli.project import project_app
from airavata_scheduler.cli.resource import resource_app, worker_app
from airavata_scheduler.cli.session import GlobalOptions
from airavata_scheduler.cli.user import user_app

app = typer.Typer(
    name="airavata",
    help="Run parameter sweeps and workflows: from one experiment document to a results table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"airavata {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    home: HomeOption = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Address of the platform. Default: AIRAVATA_SERVER_URL, else that of the home."
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = GlobalOptions(home, url)


register_lifecycle(app)
app.add_typer(experiment_app, name="experiment")
app.add_typer(project_app, name="project")
app.add_typer(user_app, name="user")
app.add_typer(resource_app, name="resource")
app.add_typer(worker_app, name="worker")
app.add_typer(auth_app, name="auth")
app.add_typer(config_app, name="config")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code.

    Errors end as words and a code, never as a traceback (AIRAVATA_DEBUG=1 shows it).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given, prog_name="airavata", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is left must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (typer.Abort, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        return failures.INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the last resort of a program)
        if hasattr(error, "format_message") and hasattr(error, "show"):
            return failures.report_usage(error, as_json="--json" in given)
        return failures.report(error, as_json="--json" in given)
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
