"""When a step may start, when it never can, and when an experiment is finished: pure rules over counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.states import TERMINAL, ExperimentState, TaskState, outcome


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step as the rules see it. ``counts`` include the tasks without a row; needs and follows are step ids."""

    step_id: int
    n: int
    counts: Mapping[TaskState, int]
    needs: tuple[int, ...]
    follows: tuple[int, ...]
    gate_open: bool
    rest_state: TaskState
    gathers: bool  #: its manifests must be written before the gate opens

    @property
    def ended(self) -> bool:
        return sum(self.counts.get(state, 0) for state in TERMINAL) == self.n

    @property
    def succeeded(self) -> bool:
        return self.counts.get(TaskState.SUCCEEDED, 0) == self.n


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now; after it is done, decide again until it is empty."""

    open: list[int] = field(default_factory=list)  #: steps whose needs are met
    manifests: list[int] = field(default_factory=list)  #: the same, once their manifests are written
    skip: list[int] = field(default_factory=list)  #: steps of which no task without a row can ever run
    finished: ExperimentState | None = None

    @property
    def changes(self) -> bool:
        return bool(self.open or self.skip)


def decide(steps: Sequence[StepStatus]) -> Decision:
    """The rules for all steps of one experiment.

    A step whose needs all succeeded opens; one of whose needs ended otherwise is skipped, as is one that follows a
    skipped step index by index. The experiment is finished when every step has ended.
    """
    by_id = {step.step_id: step for step in steps}
    decision = Decision()
    for step in steps:
        if step.rest_state is not TaskState.PENDING:
            continue
        needs = [by_id[i] for i in step.needs]
        if any(need.ended and not need.succeeded for need in needs) or any(
            by_id[i].rest_state is TaskState.SKIPPED for i in step.follows
        ):
            decision.skip.append(step.step_id)
        elif not step.gate_open and all(need.succeeded for need in needs):
            (decision.manifests if step.gathers else decision.open).append(step.step_id)
    if decision.changes or not all(step.ended for step in steps):
        return decision
    total = {state: sum(step.counts.get(state, 0) for step in steps) for state in TERMINAL}
    final = outcome(
        total[TaskState.SUCCEEDED], total[TaskState.FAILED], total[TaskState.SKIPPED], total[TaskState.CANCELED]
    )
    return Decision(finished=final)
