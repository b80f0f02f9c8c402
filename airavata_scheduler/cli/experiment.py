"""`airavata experiment`: everything about experiments, from document to results."""

from __future__ import annotations

import typer

from airavata_scheduler.cli.experiment_change import register_changes
from airavata_scheduler.cli.experiment_fetch import register_fetching
from airavata_scheduler.cli.experiment_look import register_looking
from airavata_scheduler.cli.experiment_plan import register_planning
from airavata_scheduler.cli.experiment_run import register_running

experiment_app = typer.Typer(help="Run experiments, watch them, and get their results.", no_args_is_help=True)
register_running(experiment_app)
register_planning(experiment_app)
register_looking(experiment_app)
register_fetching(experiment_app)
register_changes(experiment_app)
