"""`airavata resource` and `airavata worker`: where tasks run."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any

import typer

from airavata_scheduler.cli.options import HomeOption, JsonOption, parse_pairs
from airavata_scheduler.cli.output import amounts, moment, print_fields, print_table
from airavata_scheduler.cli.session import Session

resource_app = typer.Typer(help="Compute and storage resources.", no_args_is_help=True)
worker_app = typer.Typer(help="The processes that run tasks.", no_args_is_help=True)
ResourceArgument = Annotated[str, typer.Argument(metavar="RESOURCE", help="Name of the resource.")]


@resource_app.command("list")
def list_resources(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List compute resources with their capacity, price and speed."""
    session = Session(context, home, as_json)
    rows = session.client.resources.list()
    if not as_json:
        columns = {
            "NAME": "name",
            "KIND": "kind",
            "STATE": "state",
            "CAPACITY": lambda row: amounts(row["capacity"]),
            "WORKERS": "workers",
        }
        print_table(
            rows,
            {**columns, "RUNNING": "running", "PRICE/H": "price_per_hour", "SPEED": "speed"},
            empty="There is no resource yet.",
        )
    session.result({"items": rows})


@resource_app.command()
def get(context: typer.Context, name: ResourceArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one resource."""
    session = Session(context, home, as_json)
    row = session.client.resources.get(name)
    if not as_json:
        print_fields({**row, **{key: amounts(row[key]) for key in ("capacity", "largest")}})
    session.result(row)


@resource_app.command()
def update(
    context: typer.Context,
    name: ResourceArgument,
    price_per_hour: Annotated[float | None, typer.Option(metavar="X", help="Of one core.", show_default=False)] = None,
    gpu_price_per_hour: Annotated[
        float | None, typer.Option(metavar="X", help="Of one GPU.", show_default=False)
    ] = None,
    speed: Annotated[
        float | None, typer.Option(metavar="X", help="How fast it is; 1 is the reference.", show_default=False)
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            metavar="MB/S",
            help="At which one task there reads the storage; 0: the storage lies there.",
            show_default=False,
        ),
    ] = None,
    egress_price: Annotated[
        float | None,
        typer.Option(metavar="X", help="Of a GB that tasks there read of the storage.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="May be repeated.", show_default=False)
    ] = None,
    enabled: Annotated[
        bool | None,
        typer.Option("--enable/--disable", metavar="", help="Whether tasks are placed on it.", show_default=False),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change price, speed, distance from the storage, labels, or whether it is used."""
    session = Session(context, home, as_json)
    changes: dict[str, Any] = {
        "price_per_hour": price_per_hour,
        "gpu_price_per_hour": gpu_price_per_hour,
        "speed": speed,
        "bandwidth_bytes_per_s": None if bandwidth is None else bandwidth * 1e6,
        "egress_price_per_gb": egress_price,
        "labels": parse_pairs(label, "--label") or None,
        "enabled": enabled,
    }
    for key, value in changes.items():
        if isinstance(value, float) and not isfinite(value):
            raise typer.BadParameter(f"{key} = {value} is no number to calculate with")
    row = session.client.resources.update(name, **{key: value for key, value in changes.items() if value is not None})
    session.say(f"Resource {name} is changed.")
    session.result(row)


@resource_app.command()
def storages(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List storage resources."""
    session = Session(context, home, as_json)
    rows = session.client.resources.storages()
    if not as_json:
        print_table(rows, {"NAME": "name", "KIND": "kind", "ROOT": "root"}, empty="There is no storage.")
    session.result({"items": rows})


@worker_app.command("list")
def list_workers(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List workers."""
    session = Session(context, home, as_json)
    rows = session.client.workers.list()
    if not as_json:
        columns = {"ID": "id", "NAME": "name", "RESOURCE": "resource", "HOST": "host", "STATE": "state"}
        print_table(
            rows,
            {**columns, "RUNNING": "running", "LAST HEARD": lambda row: moment(row.get("heartbeat_at"))},
            empty="No worker has registered yet.",
        )
    session.result({"items": rows})


@worker_app.command()
def drain(
    context: typer.Context,
    worker: Annotated[int, typer.Argument(metavar="ID", help="Number of the worker.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a worker finish what it holds and take nothing more."""
    session = Session(context, home, as_json)
    row = session.client.workers.drain(worker)
    session.say(f"Worker {worker} takes nothing more.")
    session.result(row)
