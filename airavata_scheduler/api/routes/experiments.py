"""Experiments: submitting, listing, looking at one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from airavata_scheduler.api.access import Caller, Edited, Services, Viewed
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.etag import answer
from airavata_scheduler.api.models import Paged, example
from airavata_scheduler.api.models_experiments import (
    EXAMPLE_DOCUMENT,
    EventModel,
    Events,
    ExperimentModel,
    ExplanationModel,
    Key,
    NewExperiment,
    ValidationModel,
    texts,
)
from airavata_scheduler.api.models_plan import PlanModel, PlanRequest
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.platform.domain.document import json_schema
from airavata_scheduler.platform.domain.errors import InvalidRequestError
from airavata_scheduler.platform.domain.states import ExperimentState
from airavata_scheduler.platform.interfaces import Submission
from airavata_scheduler.platform.ports.queries import ExperimentFilter

router = APIRouter(prefix=f"{PREFIX}/experiments", tags=["experiments"])
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before; none: the first page")]
IdempotencyKey = Annotated[
    Key | None, Header(description="The same key gives the same experiment, however often it is sent")
]
StepName = Annotated[str | None, Query(max_length=200, description="Name of a step; none: all")]


def _exactly(what: str) -> Any:
    return Query(max_length=200, description=f"Only with this {what}")


def _submission(services: ApiServices, body: NewExperiment, key: str | None) -> Submission:
    if isinstance(body.document, str) and len(body.document) > services.limits.document_characters:
        remedy = "refer to large tables as files, or split the experiment"
        raise InvalidRequestError(
            f"the document has {len(body.document)} characters, at most {services.limits.document_characters} are read",
            path="document",
            remedy=remedy,
        )
    return Submission(body.document, body.project, texts(body.parameters), body.start, key)


@router.post(
    "",
    status_code=201,
    responses={
        **responses(401, 403, 404, 409),
        200: {"model": ExperimentModel, "description": "The key was seen before"},
    },
)
async def submit(
    body: NewExperiment,
    caller: Caller,
    services: Services,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentModel:
    """Check a document as a whole, store it, and start it unless ``start`` is false."""
    await caller.project(body.project, "submit")
    submission = _submission(services, body, idempotency_key)
    if idempotency_key and await services.queries.known_key(caller.name, idempotency_key):
        response.status_code = 200
    view = await services.orchestrator.submit(caller.name, submission)
    response.headers["Location"] = f"/api/v1/experiments/{view.id}"
    return ExperimentModel.of(view, services.clock.time())


@router.post("/validate", responses=responses(401, 403))
async def validate(body: NewExperiment, caller: Caller, services: Services) -> ValidationModel:
    """Check a document as a whole and store nothing. All of its problems come at once."""
    await caller.platform()
    return ValidationModel.of(await services.orchestrator.validate(_submission(services, body, None)))


@router.post("/plan", responses=responses(401, 403, 404, 503))
async def plan(body: PlanRequest, caller: Caller, services: Services) -> PlanModel:
    """What would run where, until when and for how much, if it were submitted now; stores nothing.

    With ``frontier`` also the plans between the fastest and the cheapest.
    """
    await caller.project(body.project, "submit")
    wanted = NewExperiment(document=body.document, project=body.project, parameters=body.parameters)
    found = await services.orchestrator.preview(_submission(services, wanted, None), frontier=body.frontier)
    return PlanModel.model_validate(dict(found))


@router.get("/schema", responses={**responses(401, 403), **example({"title": "Experiment", "type": "object"})})
async def schema(caller: Caller) -> dict[str, Any]:
    """The JSON Schema of experiment documents."""
    await caller.platform()
    return json_schema()


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


@router.get("", responses=responses(401, 403))
async def list_experiments(
    caller: Caller,
    services: Services,
    project: Annotated[str | None, _exactly("project")] = None,
    owner: Annotated[str | None, _exactly("owner")] = None,
    status: Annotated[list[ExperimentState] | None, Query(max_length=20, description="May be repeated")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Part of the name")] = None,
    tag: Annotated[str | None, _exactly("tag")] = None,
    created_after: Annotated[datetime | None, Query(description="UTC without a time zone")] = None,
    created_before: Annotated[datetime | None, Query(description="UTC without a time zone")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Paged[ExperimentModel]:
    """The experiments that you may see, newest first."""
    where = ExperimentFilter(
        visible=await services.authorization.visible(caller.name, "project"),
        project=project,
        owner=owner,
        statuses=tuple(status or ()),
        name=name,
        tag=tag,
        created_after=_aware(created_after),
        created_before=_aware(created_before),
    )
    page = await services.queries.experiments(where, limit, cursor)
    now = services.clock.time()
    return Paged(items=[ExperimentModel.of(view, now) for view in page.items], next=page.next)


@router.get(
    "/{experiment}",
    response_model=ExperimentModel,
    responses={**responses(401, 403, 404), 304: {"description": "It is as the ETag says"}},
)
async def get_experiment(experiment: Viewed, request: Request, services: Services) -> Response:
    """One experiment with its steps. Send the ETag back as If-None-Match: 304 means that nothing changed."""
    view = await services.queries.experiment(experiment)
    model = ExperimentModel.of(view, services.clock.time())
    # The clock alone is no change.
    same = model.model_dump_json(exclude={"wall_s"}).encode()
    return answer(request, model.model_dump_json().encode(), same=same)


@router.delete("/{experiment}", status_code=204, responses=responses(401, 403, 404, 409))
async def delete_experiment(experiment: Edited, caller: Caller, services: Services) -> Response:
    """Remove a finished experiment with its outputs."""
    await services.orchestrator.delete(caller.name, experiment)
    return Response(status_code=204)


@router.get("/{experiment}/document", responses={**responses(401, 403, 404), **example(EXAMPLE_DOCUMENT)})
async def document(experiment: Viewed, services: Services) -> dict[str, Any]:
    """The document as it was stored."""
    return dict(await services.queries.document(experiment))


@router.get("/{experiment}/explain", responses=responses(401, 403, 404))
async def explain(
    experiment: Viewed,
    services: Services,
    step: StepName = None,
    index: Annotated[int | None, Query(ge=0, lt=2**31, description="A task of that step")] = None,
) -> ExplanationModel:
    """Why the experiment, one of its steps or one task waits, or how it ended."""
    if index is not None and step is None:
        raise InvalidRequestError("an index needs a step", path="step", remedy="say which step the task belongs to")
    return ExplanationModel.model_validate(await services.orchestrator.explain(experiment, step, index))


@router.get("/{experiment}/events", responses=responses(401, 403, 404))
async def events(
    experiment: Viewed,
    services: Services,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Only events with a higher `seq`")] = 0,
    limit: Limit = 100,
) -> Events:
    """What happened, oldest first, after an event's number."""
    found = await services.queries.events(after, limit, experiment=experiment)
    items = [EventModel.model_validate(event) for event in found]
    return Events(items=items, next_seq=found[-1].seq if found else after)
