"""Models of plans made before an experiment is launched."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from airavata_scheduler.api.models import Asked, Shown, Time, asked, shown
from airavata_scheduler.api.models_experiments import EXAMPLE_DOCUMENT, Parameters

_MEMORY = {
    "asked_bytes": 0, "mean_bytes": 2.1e8, "low_bytes": 1.8e8, "high_bytes": 2.6e8, "largest_bytes": 2.5e8, "n": 12
}  # fmt: skip
_RUNTIME = {"mean_s": 60.0, "low_s": 23.2, "high_s": 107.9, "n": 0}


class PlanRequest(Asked):
    """An experiment document with files inlined, as for a submission; ``frontier`` asks for plans to choose from."""

    model_config = asked({"document": EXAMPLE_DOCUMENT, "project": "default", "frontier": True})
    document: str | dict[str, Any]
    project: Annotated[str, Field(max_length=64)] = "default"
    parameters: Parameters | None = None
    frontier: bool = False


class RuntimeModel(BaseModel):
    """A duration in seconds: its mean, 10 % and 90 % quantiles, and how many observations stand behind it."""

    mean_s: float
    low_s: float
    high_s: float
    n: int


class MemoryModel(BaseModel):
    """Peak memory of a task: mean, 10 % and 90 % quantiles and largest of the n seen; ``asked_bytes`` 0: nothing."""

    asked_bytes: int
    mean_bytes: float
    low_bytes: float
    high_bytes: float
    largest_bytes: float
    n: int


class PlaceModel(BaseModel):
    """Tasks of a step on a resource: how many in all, how many at a time, and when the first starts."""

    resource: str
    tasks: int
    places: int
    start_in_s: float | None


class ObstacleModel(BaseModel):
    """Why tasks have no place."""

    cause: str
    text: str
    resource: str
    amount: float | None
    dimension: str


class PlannedStep(BaseModel):
    """One step in the plan."""

    name: str
    n: int
    request: dict[str, float]
    places: list[PlaceModel]
    unplaced: int
    reasons: list[ObstacleModel]
    runtime: RuntimeModel
    runtime_on: dict[str, RuntimeModel]
    failure_rate: float
    failure_on: dict[str, float]
    memory: MemoryModel | None
    planned_memory_bytes: float
    input_bytes: float
    earlier_attempts: int


class PointModel(BaseModel):
    """A plan of the frontier; ``objective`` and ``budget`` in the document are what makes it."""

    number: int
    finish_s: float | None
    finish_low_s: float | None
    finish_high_s: float | None
    cost: float
    moved_bytes: float
    deadline_risk: float
    budget: float | None
    objective: dict[str, float]
    places: dict[str, dict[str, int]]


class PlanModel(Shown):
    """What is expected of an experiment if it were submitted now, beside everything that runs.

    ``finish_s`` and its range are from now, ``cost`` is money, ``deadline_risk`` a probability. ``frontier`` goes from
    the fastest to the cheapest plan.
    """

    model_config = shown(
        {
            "name": "square", "n_tasks": 100, "finish_s": 750.0, "finish_low_s": 290.0, "finish_high_s": 1398.0,
            "finish_at": "2026-01-01T00:12:30Z", "cost": 0.4, "moved_bytes": 0.0, "late_s": 0.0, "deadline_risk": 0.0,
            "placed": 100, "unplaced": 0, "budget": 5.0, "deadline": "2026-01-02T00:00:00Z",
            "objective": {"time": 0.4, "cost": 0.3, "deadline": 0.2, "locality": 0.1},
            "steps": [
                {
                    "name": "square", "n": 100, "request": {"cpu": 1.0},
                    "places": [{"resource": "local", "tasks": 100, "places": 8, "start_in_s": 0.0}],
                    "unplaced": 0, "reasons": [], "runtime": _RUNTIME, "runtime_on": {}, "failure_rate": 0.0,
                    "failure_on": {}, "memory": _MEMORY, "planned_memory_bytes": 2.6e8, "input_bytes": 0.0,
                    "earlier_attempts": 0,
                }
            ],
            "resources": {"local": 100}, "planned_at": "2026-01-01T00:00:00Z", "solver": "flow", "gap": 0.001,
            "warnings": [],
            "frontier": [
                {
                    "number": 1, "finish_s": 750.0, "finish_low_s": 290.0, "finish_high_s": 1398.0, "cost": 0.4,
                    "moved_bytes": 0.0, "deadline_risk": 0.0, "budget": 5.0, "objective": {"time": 1.0},
                    "places": {"square": {"local": 8}},
                }
            ],
        }
    )  # fmt: skip
    name: str
    n_tasks: int
    finish_s: float | None = None
    finish_low_s: float | None = None
    finish_high_s: float | None = None
    finish_at: Time | None
    cost: float = 0.0
    moved_bytes: float = 0.0
    late_s: float = 0.0
    deadline_risk: float = 0.0
    placed: int = 0
    unplaced: int = 0
    budget: float | None
    deadline: Time | None
    objective: dict[str, float]
    steps: list[PlannedStep]
    resources: dict[str, int]
    planned_at: Time
    solver: str
    gap: float | None
    warnings: list[str]
    frontier: list[PointModel] | None
