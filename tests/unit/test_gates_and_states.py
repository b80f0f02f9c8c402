"""When steps open, are skipped, and experiments end; and which ways a task may go."""

from __future__ import annotations

import pytest

from airavata_scheduler.adapters.memory.database import IllegalTransitionError, StepRow
from airavata_scheduler.platform.domain.compiled import CompiledStep, ProgramTemplate
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.gates import Decision, StepStatus, decide
from airavata_scheduler.platform.domain.states import ACTIVE, TERMINAL, TRANSITIONS, ExperimentState, TaskState, outcome
from airavata_scheduler.platform.domain.sweep import Sweep

S = TaskState


def status(step_id: int, counts: dict[TaskState, int], **more: object) -> StepStatus:
    values: dict[str, object] = {
        "needs": (), "follows": (), "gate_open": True, "rest_state": S.READY, "gathers": False, **more,
    }  # fmt: skip
    return StepStatus(step_id, sum(counts.values()), counts, **values)  # type: ignore[arg-type]


def waiting(step_id: int, n: int = 2, **more: object) -> StepStatus:
    return status(step_id, {S.PENDING: n}, **{"gate_open": False, "rest_state": S.PENDING, **more})


def test_a_step_opens_when_all_it_needs_succeeded() -> None:
    assert decide([status(1, {S.SUCCEEDED: 2}), waiting(2, needs=(1,))]) == Decision(open=[2])
    assert decide([status(1, {S.SUCCEEDED: 1, S.RUNNING: 1}), waiting(2, needs=(1,))]) == Decision()
    assert decide([status(1, {S.SUCCEEDED: 2}), status(3, {S.READY: 1}), waiting(2, needs=(1, 3))]) == Decision()


def test_a_gather_step_asks_for_its_manifests_first() -> None:
    assert decide([status(1, {S.SUCCEEDED: 2}), waiting(2, needs=(1,), gathers=True)]) == Decision(manifests=[2])


def test_a_step_is_skipped_when_what_it_needs_ended_otherwise() -> None:
    failed = status(1, {S.SUCCEEDED: 1, S.FAILED: 1})
    assert decide([failed, waiting(2, needs=(1,))]) == Decision(skip=[2])
    assert decide([status(1, {S.FAILED: 1, S.READY: 1}), waiting(2, needs=(1,))]) == Decision()
    skipped = status(2, {S.SKIPPED: 3}, rest_state=S.SKIPPED, gate_open=False)
    follower = waiting(3, follows=(2,), gate_open=True)
    assert decide([failed, skipped, follower]) == Decision(skip=[3])


def test_what_is_canceled_or_open_is_left_alone() -> None:
    canceled = status(2, {S.CANCELED: 2}, needs=(1,), gate_open=False, rest_state=S.CANCELED)
    assert decide([status(1, {S.SUCCEEDED: 1}), canceled]).open == []


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((3, 0, 0, 0), ExperimentState.SUCCEEDED),
        ((2, 1, 0, 0), ExperimentState.PARTIAL),
        ((2, 0, 1, 0), ExperimentState.PARTIAL),
        ((0, 1, 2, 0), ExperimentState.FAILED),
        ((2, 0, 0, 1), ExperimentState.CANCELED),
        ((0, 1, 1, 1), ExperimentState.CANCELED),
    ],
)
def test_the_end_follows_from_the_counts(counts: tuple[int, int, int, int], expected: ExperimentState) -> None:
    assert outcome(*counts) is expected
    states = (S.SUCCEEDED, S.FAILED, S.SKIPPED, S.CANCELED)
    assert decide([status(1, dict(zip(states, counts, strict=True)))]).finished is expected


def test_an_experiment_with_one_open_task_is_not_finished() -> None:
    for state in set(S) - TERMINAL:
        assert decide([status(1, {S.SUCCEEDED: 5}), status(2, {state: 1})]).finished is None


def test_success_is_for_ever_and_only_retry_leads_out_of_an_end() -> None:
    assert TRANSITIONS[S.SUCCEEDED] == frozenset()
    for state in TERMINAL - {S.SUCCEEDED}:
        assert TRANSITIONS[state] <= {S.PENDING, S.READY}


def test_active_states_only_go_on_back_or_end() -> None:
    for state in ACTIVE:
        assert all(after > state for after in TRANSITIONS[state] & ACTIVE)
        assert {S.READY, S.SUCCEEDED, S.FAILED, S.CANCELED} <= TRANSITIONS[state]
        assert S.SKIPPED not in TRANSITIONS[state]


def test_a_store_refuses_what_is_no_transition() -> None:
    compiled = CompiledStep(
        position=0, name="s", n=2, sweep=Sweep(), foreach=(), fan_out=2, gather=(), after=(), references={},
        program=ProgramTemplate(), retry=RetryPolicy(), priority=0, time_s=None,
    )  # fmt: skip
    step = StepRow(1, "e", compiled, (), (), gate_open=True, rest_state=S.READY)
    step.move(0, S.ASSIGNED)
    step.move(0, S.SUCCEEDED)
    with pytest.raises(IllegalTransitionError, match="SUCCEEDED -> READY"):
        step.move(0, S.READY)
    with pytest.raises(IllegalTransitionError, match="READY -> SUCCEEDED"):
        step.move(1, S.SUCCEEDED)
    assert step.counts()[S.READY] == 1
