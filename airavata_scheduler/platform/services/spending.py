"""What experiments with a budget may still spend: what is left, less what running tasks are expected to cost. Pure.

An attempt is charged when it ends, so a running task counts with all of its expected cost. That bounds what is started;
whatever the expectation was worth, nothing more is started once the budget is spent (`TaskStore.claim` refuses it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.ports.repository import Charge, OpenStep, PlannableResource, PlanningState
from airavata_scheduler.platform.services.experience import StepEstimate
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.scheduler_core.problem import LEAST_SUCCESS

#: Taken for a task about whose runtime nobody said anything and nothing was learnt.
DEFAULT_RUNTIME_S = 60.0
#: And of the time until a hard deadline, this much at most.
_PART_OF_DEADLINE = 0.1
UNLIMITED = 1 << 30
_GB = 1e9
_EPSILON = 1e-9


def cost_of(step: CompiledStep, charge: Charge, wall_s: float) -> float:
    """What the time costs of a task of a step that runs so long."""
    request = step.program.request
    return (request.cpu * charge.price_per_hour + request.gpu * charge.gpu_price_per_hour) * wall_s / 3600.0


def charges(resources: Sequence[PlannableResource], reads: Mapping[int, float]) -> dict[str, Charge]:
    """Prices by name of the resource. ``reads``: step id -> bytes that one of its tasks reads."""
    return {r.name: Charge(r.price_per_hour, r.gpu_price_per_hour, _to_start(r, reads)) for r in resources}


def _to_start(resource: PlannableResource, reads: Mapping[int, float]) -> dict[int, float]:
    price = resource.egress_price_per_gb
    return {step_id: size / _GB * price for step_id, size in reads.items()} if price > 0 else {}


def prior_s(step: OpenStep, known: CompiledStep, resources: Sequence[PlannableResource]) -> float:
    """What to assume of a task's runtime at speed 1 before anything was seen: the user's figure, or a default.

    Nobody sets a budget that cannot pay for the experiment, so the default is no more than what the budget allows; nor
    a hard deadline that leaves no time for a task.
    """
    if known.time_s:
        return known.time_s
    most_s = DEFAULT_RUNTIME_S
    if step.hard_deadline and step.deadline is not None:
        most_s = min(most_s, max(1.0, _PART_OF_DEADLINE * (step.deadline - step.submitted_at)))
    dearest = max((cost_of(known, charge, 1.0) for charge in charges(resources, {}).values()), default=0.0)
    if step.budget is None or dearest <= 0 or step.budget <= 0:
        return most_s
    return min(most_s, 0.9 * step.budget / dearest / step.n)


def _whole_s(believed: StepEstimate, resource: PlannableResource, run_s: float, read_bytes: float) -> float:
    """Seconds with the repeats that a plan expects, and with reading where it was not yet seen to be a part of them."""
    pace = resource.bandwidth_bytes_per_s
    reading_s = read_bytes / pace if pace > 0 and resource.name not in believed.on else 0.0
    fails = believed.failure_on.get(resource.name, believed.failure_rate)
    return run_s / max(LEAST_SUCCESS, 1.0 - fails) + reading_s


@dataclass(slots=True)
class Spending:
    """Money by experiment. Only experiments with a budget are in it: all others may start what they like."""

    left: dict[str, float] = field(default_factory=dict)  #: neither spent nor committed
    committed: dict[str, float] = field(default_factory=dict)
    owner: dict[int, str] = field(default_factory=dict)  #: step id -> experiment
    price: dict[tuple[int, str], float] = field(default_factory=dict)  #: expected, of one attempt on a resource
    whole: dict[tuple[int, str], float] = field(default_factory=dict)  #: of one task there, as a plan counts

    @classmethod
    def of(
        cls,
        state: PlanningState,
        known: Mapping[int, KnownStep],
        estimates: Mapping[int, StepEstimate],
        reads: Mapping[int, float],
    ) -> Spending:
        """As the database says, with expected costs. ``reads``: step id -> bytes that one of its tasks reads."""
        found = cls()
        charge_of, names = charges(state.resources, reads), {r.id: r.name for r in state.resources}
        for step in state.steps:
            if step.budget is None or step.step_id not in known:
                continue
            found.owner[step.step_id] = step.experiment
            found.left.setdefault(step.experiment, step.budget - step.cost)
            for r in state.resources:
                expected_s = estimates[step.step_id].runtime_on(r.name, r.speed)
                charge, compiled = charge_of[r.name], known[step.step_id].step
                cost, to_start = cost_of(compiled, charge, expected_s), charge.to_start.get(step.step_id, 0.0)
                found.price[step.step_id, r.name] = cost + to_start
                found.whole[step.step_id, r.name] = to_start + cost_of(
                    compiled, charge, _whole_s(estimates[step.step_id], r, expected_s, reads.get(step.step_id, 0.0))
                )
            for resource_id, n in step.active.items():
                found.commit(step.step_id, names[resource_id], n)
        return found

    def copies(self, step_id: int, resource: str, spent: Mapping[str, float]) -> int:
        """How many tasks can be paid for, when a claim has already taken ``spent`` of each experiment."""
        experiment, price = self.owner.get(step_id), self.price.get((step_id, resource), 0.0)
        if experiment is None or price <= 0:
            return UNLIMITED
        return max(0, int((self.left[experiment] - spent.get(experiment, 0.0)) / price + _EPSILON))

    def cost(self, step_id: int, resource: str, n: int) -> dict[str, float]:
        """By experiment, what n tasks are expected to cost; nothing without a budget."""
        experiment = self.owner.get(step_id)
        return {} if experiment is None else {experiment: n * self.price.get((step_id, resource), 0.0)}

    def commit(self, step_id: int, resource: str, n: int) -> None:
        """Tasks start (or, with a negative number, do not)."""
        for experiment, amount in self.cost(step_id, resource, n).items():
            self.left[experiment] -= amount
            self.committed[experiment] = self.committed.get(experiment, 0.0) + amount

    def settle(self, step_id: int, resource: str, n: int, cost: float) -> None:
        """Tasks ended and cost this much together."""
        self.commit(step_id, resource, -n)
        experiment = self.owner.get(step_id)
        if experiment is not None:
            self.left[experiment] -= cost
