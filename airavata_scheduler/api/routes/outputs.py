"""Outputs, one by one or all in an archive, and the results table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from airavata_scheduler.api import archive
from airavata_scheduler.api.access import Services, Viewed
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.models import Paged
from airavata_scheduler.api.models_experiments import OutputModel
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.api.routes.experiments import Cursor, Limit, StepName
from airavata_scheduler.api.routes.tasks import Index, Step
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.services import results as tables

router = APIRouter(prefix=PREFIX + "/experiments/{experiment}", tags=["outputs"], responses=responses(401, 403, 404))
_TABLE = {
    "columns": ["experiment", "step", "index", "X"],
    "items": [{"experiment": "e-7xk2", "step": "square", "index": 0, "X": 1}],
}
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def _attachment(name: str) -> dict[str, str]:
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    # A browser must never run what a task wrote.
    return {"Content-Disposition": f'attachment; filename="{safe}"', "X-Content-Type-Options": "nosniff"}


@router.get("/outputs")
async def list_outputs(
    experiment: Viewed, services: Services, step: StepName = None, limit: Limit = 100, cursor: Cursor = None
) -> Paged[OutputModel]:
    """Published outputs by step, index and name."""
    page = await services.queries.outputs(experiment, step, limit, cursor)
    return Paged(items=[OutputModel.model_validate(output) for output in page.items], next=page.next)


@router.get(
    "/outputs/{step}/{index}/{name}",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/octet-stream": _BYTES, "application/x-tar": _BYTES},
            "description": "The file; a directory comes as a tar",
        }
    },
)
async def get_output(
    experiment: Viewed,
    step: Step,
    index: Index,
    name: Annotated[str, Path(max_length=200, description="Name of the output")],
    services: Services,
) -> StreamingResponse:
    """One output."""
    output = await services.queries.output(experiment, step, index, name)
    storage = services.storage(output.storage)
    size_bytes = await storage.size(output.key)
    checksum = {"X-Checksum-Sha256": output.sha256}
    if size_bytes is None:
        if not await archive.objects(storage, output.key) and output.size_bytes:
            message = f"the storage {output.storage!r} has lost the output {name!r}"
            raise NotFoundError(message, path="name", remedy="run the task again with `airavata experiment derive`")
        headers = {**_attachment(f"{name}.tar"), **checksum}
        return StreamingResponse(
            archive.directory(storage, output.key), media_type="application/x-tar", headers=headers
        )
    headers = {**_attachment(output.key.rpartition("/")[2]), **checksum, "Content-Length": str(size_bytes)}
    stream = storage.stream(output.key, 0, size_bytes)
    return StreamingResponse(stream, media_type="application/octet-stream", headers=headers)


@router.get(
    "/archive",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/x-tar": _BYTES}, "description": "Members are <step>/<index>/<relative path>"}
    },
)
async def get_archive(experiment: Viewed, services: Services, step: StepName = None) -> StreamingResponse:
    """All published outputs as one tar, by step and index."""
    # Asked for once before the stream begins, so that an unknown step is an error and not an empty archive.
    await services.queries.outputs(experiment, step, 1, None)
    body = archive.published(services.queries, experiment, step, services.storage)
    headers = _attachment(f"{experiment}.tar")
    return StreamingResponse(body, media_type="application/x-tar", headers=headers)


@router.get(
    "/results",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": _TABLE},
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "experiment,step,index,X\r\ne-7xk2,square,0,1\r\n",
                },
                "application/vnd.apache.parquet": _BYTES,
            },
            "description": "One row for every task",
        }
    },
)
async def results(
    experiment: Viewed,
    services: Services,
    format: Annotated[Literal["json", "csv", "parquet"], Query(description="Of the table")] = "json",  # noqa: A002 - the name of the query parameter
    step: StepName = None,
) -> StreamingResponse:
    """The results table: parameters, declared results, state, timings, usage and cost of every task."""
    schema, batches = await tables.record_batches(services.queries, experiment, step)
    media_type, write = tables.FORMATS[format]
    headers = _attachment(f"{experiment}.{format}") if format != "json" else {}
    return StreamingResponse(write(schema, batches), media_type=media_type, headers=headers)
