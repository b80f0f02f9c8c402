"""What can be done to an experiment. Every command may be repeated."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from airavata_scheduler.api.access import Caller, Services, Submittable
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.models import optional
from airavata_scheduler.api.models_experiments import Derive, ExperimentModel, Reason, Resubmit, Resume, texts
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.api.routes.experiments import IdempotencyKey
from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.platform.domain.views import ExperimentView
from airavata_scheduler.platform.interfaces import Derivation

router = APIRouter(
    prefix=PREFIX + "/experiments/{experiment}", tags=["experiments"], responses=responses(401, 403, 404, 409)
)

OptionalReason = Annotated[Reason | None, optional(Reason)]


def _shown(services: ApiServices, view: ExperimentView) -> ExperimentModel:
    return ExperimentModel.of(view, services.clock.time())


@router.post("/start")
async def start(experiment: Submittable, caller: Caller, services: Services) -> ExperimentModel:
    """Start a draft."""
    return _shown(services, await services.orchestrator.start(caller.name, experiment))


@router.post("/cancel")
async def cancel(
    experiment: Submittable, caller: Caller, services: Services, body: OptionalReason = None
) -> ExperimentModel:
    """End it: what has not finished is canceled, and its processes are gone."""
    return _shown(services, await services.orchestrator.cancel(caller.name, experiment, body.reason if body else ""))


@router.post("/pause")
async def pause(
    experiment: Submittable, caller: Caller, services: Services, body: OptionalReason = None
) -> ExperimentModel:
    """Start no more tasks; those that run go on."""
    return _shown(services, await services.orchestrator.pause(caller.name, experiment, body.reason if body else ""))


@router.post("/resume")
async def resume(
    experiment: Submittable, caller: Caller, services: Services, body: Annotated[Resume | None, optional(Resume)] = None
) -> ExperimentModel:
    """Go on after a pause, with another budget or deadline if one is given."""
    limits = body or Resume()
    return _shown(services, await services.orchestrator.resume(caller.name, experiment, limits.budget, limits.deadline))


@router.post("/retry")
async def retry(experiment: Submittable, caller: Caller, services: Services) -> ExperimentModel:
    """Try failed tasks again, and what was skipped or canceled because of them."""
    return _shown(services, await services.orchestrator.retry(caller.name, experiment))


@router.post("/derive", status_code=201)
async def derive(
    experiment: Submittable, body: Derive, caller: Caller, services: Services, idempotency_key: IdempotencyKey = None
) -> ExperimentModel:
    """A new experiment from this one: all, only the failed or only the succeeded tasks, with changes."""
    wanted = Derivation(body.select, texts(body.parameters), body.changes, body.name, body.start, idempotency_key)
    return _shown(services, await services.orchestrator.derive(caller.name, experiment, wanted))


@router.post("/resubmit", status_code=201)
async def resubmit(
    experiment: Submittable,
    caller: Caller,
    services: Services,
    body: Annotated[Resubmit | None, optional(Resubmit)] = None,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentModel:
    """The whole experiment once more, as a new one."""
    wanted = Derivation("all", texts(body.parameters) if body else None, idempotency_key=idempotency_key)
    return _shown(services, await services.orchestrator.derive(caller.name, experiment, wanted))
