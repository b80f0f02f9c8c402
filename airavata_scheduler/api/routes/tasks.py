"""Tasks, their attempts and their logs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from airavata_scheduler.api.access import Services, Viewed
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.logs import LogReader, Stream
from airavata_scheduler.api.models import Paged
from airavata_scheduler.api.models_experiments import StateName, TaskModel
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.api.routes.experiments import Cursor, Limit, StepName
from airavata_scheduler.platform.domain.states import TaskState

router = APIRouter(
    prefix=PREFIX + "/experiments/{experiment}/tasks", tags=["tasks"], responses=responses(401, 403, 404)
)
Step = Annotated[str, Path(max_length=200, description="Name of the step")]
Index = Annotated[int, Path(ge=0, lt=2**31 - 1, description="Number of the task in its step, from 0")]


@router.get("")
async def list_tasks(
    experiment: Viewed,
    services: Services,
    step: StepName = None,
    state: Annotated[list[StateName] | None, Query(max_length=20, description="May be repeated")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Paged[TaskModel]:
    """Tasks by step and index, without their attempts."""
    states = [TaskState[name.upper()] for name in state or ()]
    page = await services.queries.tasks(experiment, step, states, limit, cursor)
    return Paged(items=[TaskModel.of(task) for task in page.items], next=page.next)


@router.get("/{step}/{index}")
async def get_task(experiment: Viewed, step: Step, index: Index, services: Services) -> TaskModel:
    """One task with its attempts."""
    return TaskModel.of(await services.queries.task(experiment, step, index))


@router.get(
    "/{step}/{index}/logs",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "step 1 of 10\n"}},
            "description": "The output as it was written",
        }
    },
)
async def logs(
    experiment: Viewed,
    step: Step,
    index: Index,
    services: Services,
    stream: Annotated[Stream, Query(description="Which of the two")] = "stdout",
    attempt: Annotated[int | None, Query(ge=1, lt=2**15, description="From 1; none: the latest")] = None,
    offset: Annotated[int, Query(ge=0, lt=2**40, description="Bytes to leave out at the beginning")] = 0,
    follow: Annotated[bool, Query(description="Go on until the attempt has ended")] = False,
) -> StreamingResponse:
    """Standard output or error of an attempt, the latest unless another is named; ``follow`` until it ends."""
    reader = LogReader(services, experiment, step, index, stream, attempt)
    source, extent = await reader.first(follow=follow)
    headers = {
        "X-Log-Truncated": "true" if extent is not None and extent.truncated else "false",
        "X-Attempt": str(source.attempt),
        "X-Content-Type-Options": "nosniff",
    }
    body = reader.read(source, extent, offset, follow=follow)
    return StreamingResponse(body, media_type="text/plain; charset=utf-8", headers=headers)
