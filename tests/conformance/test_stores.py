"""The stores, in memory and on PostgreSQL: leases, claims, reports, workers and what follows from all of them."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest

from airavata_scheduler.platform.domain.compiled import CompiledStep, ProgramTemplate, Reference
from airavata_scheduler.platform.domain.errors import ConflictError, KeyReusedError, LeaseLostError, NotFoundError
from airavata_scheduler.platform.domain.failures import MAX_INFRASTRUCTURE_FAILURES, Cause, RetryPolicy
from airavata_scheduler.platform.domain.messages import Hello, Output, Report, StorageLocation
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.domain.workers import LastLook
from airavata_scheduler.platform.ports.repository import Charge, ReportContext, WorkerOrders

World = Any  # see conftest.py


def hello(name: str) -> Hello:
    return Hello(name, "local", "host", "node", 1, "0", Capacity(cpu=2))


def step(position: int, n: int, **more: Any) -> CompiledStep:
    foreach = more.pop("foreach", ())
    values: dict[str, Any] = {
        "name": f"s{position}",
        "sweep": Sweep(),
        "foreach": foreach,
        "fan_out": more.pop("fan_out", 1 if foreach else n),
        "gather": (),
        "after": (),
        "references": {},
        "program": ProgramTemplate(command=("true",)),
        "retry": RetryPolicy(),
        "priority": 0,
        "time_s": None,
    }
    return CompiledStep(position=position, n=n, **{**values, **more})


async def test_a_range_is_claimed_in_order_and_finished_once(world: World) -> None:
    (a,) = await world.submit("e", step(0, 10))
    assert await world.counts(a) == {"ready": 10}
    first = await world.claim(a, 4)
    assert first == [(a, i, 1) for i in range(4)]
    assert await world.counts(a) == {"ready": 6, "assigned": 4}
    rest = await world.claim(a, 100)
    assert [index for _, index, _ in rest] == list(range(4, 10))
    assert await world.claim(a, 1) == []
    outcome = await world.end(first)
    assert outcome.stale == []
    assert outcome.finished == []
    again = await world.end(first)
    assert again.stale == first
    assert (await world.end(rest)).finished == ["e"]
    assert await world.status("e") == "SUCCEEDED"
    assert await world.counts(a) == {"succeeded": 10}
    assert await world.usage("e") == (pytest.approx(10.0), pytest.approx(5.0))
    assert await world.attempts() == 10


async def test_followers_are_released_and_skipped_index_by_index(world: World) -> None:
    a, b, c, d = await world.submit(
        "e", step(0, 3), step(1, 3), step(2, 6, foreach=(0, 1), fan_out=2), step(3, 6, foreach=(2,))
    )
    in_a, in_b = await world.claim(a, 3), await world.claim(b, 3)
    await world.end(in_a[:2])
    assert await world.counts(c) == {"pending": 6}
    outcome = await world.end([in_b[0], in_b[2]])
    assert outcome.released == 2
    assert await world.counts(c) == {"pending": 4, "ready": 2}
    await world.end([in_a[2]], TaskState.FAILED, cause=Cause.EXIT_CODE, exit_code=3)
    assert await world.counts(c) == {"pending": 2, "ready": 2, "skipped": 2}
    assert await world.counts(d) == {"pending": 4, "skipped": 2}
    await world.end([in_b[1]])
    in_c = await world.claim(c, 10)
    assert [index for _, index, _ in in_c] == [0, 1, 2, 3]
    await world.end(in_c)
    last = await world.claim(d, 10)
    assert (await world.end(last)).finished == ["e"]
    assert await world.status("e") == "PARTIAL"
    assert await world.experiments.retry("e") == 5
    assert await world.status("e") == "RUNNING"
    assert await world.counts(d) == {"succeeded": 4, "pending": 2}
    await world.end(await world.claim(a, 10))
    await world.end(await world.claim(c, 10))
    assert (await world.end(await world.claim(d, 10))).finished == ["e"]
    assert await world.status("e") == "SUCCEEDED"


async def test_gates_open_after_their_needs_and_manifests_are_asked_for(world: World) -> None:
    reference = {"PARTS": Reference(0, "OUT", "gather")}
    a, b, c = await world.submit("e", step(0, 2), step(1, 1, gather=(0,), references=reference), step(2, 2, after=(1,)))
    keys = await world.claim(a, 2)
    outputs = (Output("OUT", "e/s0/0/1/o", 3, "ff"),)
    assert (await world.end(keys[:1], outputs=outputs)).manifests_due == []
    assert (await world.end(keys[1:], outputs=(Output("OUT", "e/s0/1/1/o", 3, "ff"),))).manifests_due == [b]
    assert await world.experiments.due_manifests() == [b]
    assert await world.claim(b, 1) == []
    assert [list(page) async for page in world.experiments.manifest_keys(a, "OUT")] == [["e/s0/0/1/o", "e/s0/1/1/o"]]
    assert await world.tasks.output_keys([(a, 0)]) == {(a, 0): {"OUT": "e/s0/0/1/o"}}
    assert await world.experiments.open_gate(world.fence, b) == 1
    assert (await world.end(await world.claim(b, 1))).released == 2
    assert (await world.end(await world.claim(c, 2))).finished == ["e"]


async def test_a_failed_need_skips_the_whole_step(world: World) -> None:
    a, b = await world.submit("e", step(0, 1), step(1, 1_000_000, after=(0,)))
    outcome = await world.end(await world.claim(a, 1), TaskState.FAILED, cause=Cause.EXIT_CODE)
    assert outcome.finished == ["e"]
    assert await world.status("e") == "FAILED"
    assert await world.counts(b) == {"skipped": 1_000_000}
    assert await world.experiments.retry("e") == 1_000_001
    assert await world.counts(b) == {"pending": 1_000_000}
    await world.end(await world.claim(a, 1))
    assert await world.counts(b) == {"ready": 1_000_000}


async def test_retries_wait_for_their_back_off_and_infrastructure_does_not_count(world: World) -> None:
    policy = RetryPolicy(max_attempts=2, backoff_s=3600.0, max_backoff_s=3600.0)
    (a,) = await world.submit("e", step(0, 2, retry=policy))
    one, two = await world.claim(a, 2)
    assert (await world.end([one], TaskState.FAILED, cause=Cause.EXIT_CODE)).released == 1
    assert await world.claim(a, 5) == []
    state = await world.tasks.planning_state()
    assert state.next_retry_at is not None
    assert state.next_retry_at > state.now + 3000
    assert state.in_back_off == {a: 1}
    await world.end([two], TaskState.FAILED, cause=Cause.INFRASTRUCTURE)
    await world.end_back_offs()
    assert (await world.tasks.planning_state()).in_back_off == {}
    again = await world.claim(a, 5)
    assert again == [(a, 0, 2), (a, 1, 2)]
    await world.end(again, TaskState.FAILED, cause=Cause.EXIT_CODE)
    assert await world.counts(a) == {"failed": 1, "ready": 1}


async def test_cancel_is_independent_of_size_and_late_reports_change_nothing(world: World) -> None:
    a, b = await world.submit("e", step(0, 1_000_000), step(1, 1_000_000, foreach=(0,)))
    held = await world.claim(a, 3)
    assert await world.experiments.cancel("e", "enough") == (ExperimentState.CANCELED, [world.worker])
    assert await world.counts(a) == {"canceled": 1_000_000}
    assert await world.experiments.holding("e") == 3
    assert await world.workers.renew_worker(world.worker, 30) == WorkerOrders(canceled=tuple(held))
    assert await world.claim(a, 5) == []
    assert (await world.end(held[:1])).stale == []
    assert (await world.end(held[1:], TaskState.CANCELED)).stale == []
    assert await world.counts(b) == {"canceled": 1_000_000}
    assert await world.experiments.holding("e") == 0
    assert await world.experiments.retry("e") == 2_000_000
    assert (await world.claim(a, 5))[0] == (a, 0, 2)


async def test_a_lost_worker_gives_back_its_tasks_and_can_change_nothing(world: World) -> None:
    (a,) = await world.submit("e", step(0, 4))
    held = await world.claim(a, 3)
    await world.end(held[:1], TaskState.RUNNING)
    second = await world.workers.register_worker(hello("w"), 30)
    with pytest.raises(NotFoundError):
        await world.workers.renew_worker(world.worker, 30)
    assert await world.tasks.claim(world.fence, world.worker, [(a, 1)]) == []
    back, _ = await world.workers.take_back(world.fence)
    assert back == 3
    assert (await world.end(held)).stale == held
    assert await world.counts(a) == {"ready": 4}
    world.worker = second
    await world.end_back_offs()
    assert (await world.end(await world.claim(a, 9))).finished == ["e"]


async def test_what_a_worker_did_not_get_goes_back(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    held = await world.claim(a, 3)
    assert await world.tasks.give_back(world.worker, held[:1]) == 2
    assert await world.tasks.give_back(world.worker, []) == 1
    again = await world.claim(a, 3)
    assert again == [(a, 0, 2), (a, 1, 2), (a, 2, 2)]
    await world.end(again[:1], TaskState.RUNNING)
    await world.experiments.cancel("e", "")
    assert await world.tasks.give_back(world.worker, again[:2]) == 0
    assert await world.experiments.holding("e") == 2


async def test_a_stolen_lease_stops_claims(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    leases = world.leases
    await leases.take("task-scheduler", "successor", 10)
    with pytest.raises(LeaseLostError):
        await world.claim(a, 1)
    with pytest.raises(LeaseLostError):
        await leases.renew(world.fence, 10)


async def test_a_key_stands_for_one_request(world: World) -> None:
    await world.submit("e", step(0, 3), key="k", digest="one")
    assert await world.submit("f", step(0, 3), key="k", digest="one") == []
    with pytest.raises(KeyReusedError, match="experiment e"):
        await world.submit("g", step(0, 3), key="k", digest="another")
    assert await world.step_ids("g") == []


async def test_pause_resume_delete_and_idempotency(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3), key="k")
    assert await world.submit("f", step(0, 3), key="k") == []
    await world.experiments.pause("e", "lunch")
    assert await world.claim(a, 1) == []
    with pytest.raises(ConflictError):
        await world.experiments.delete("e")
    await world.experiments.resume("e")
    held = await world.claim(a, 3)
    await world.end(held[:1], TaskState.FAILED, cause=Cause.EXIT_CODE)
    await world.end(held[1:])
    assert await world.experiments.indexes("e", [TaskState.SUCCEEDED]) == {0: [(1, 2)]}
    assert await world.experiments.indexes("e", [TaskState.FAILED]) == {0: [(0, 0)]}
    seen = await world.experiments.announce_progress(world.fence, {})
    assert seen == {}
    assert await world.experiments.deleted() == []
    await world.experiments.delete("e")
    assert await world.experiments.deleted() == ["e"]
    with pytest.raises(NotFoundError):
        await world.experiments.cancel("e", "")


async def test_a_gate_that_opens_late_frees_nothing_of_a_canceled_experiment(world: World) -> None:
    a, b, c = await world.submit(
        "e", step(0, 1), step(1, 1, gather=(0,)), step(2, 3, foreach=(0,), fan_out=3, gather=(0,))
    )
    await world.end(await world.claim(a, 1))
    assert await world.experiments.due_manifests() == [b, c]
    await world.experiments.cancel("e", "")
    assert await world.experiments.open_gate(world.fence, b) == 0
    assert await world.experiments.open_gate(world.fence, c) == 0
    assert await world.counts(b) == {"canceled": 1}
    assert await world.experiments.due_manifests() == []
    assert await world.experiments.retry("e") == 4
    assert await world.experiments.due_manifests() == [b, c]
    assert await world.experiments.open_gate(world.fence, b) == 1
    assert await world.experiments.open_gate(world.fence, c) == 3
    assert await world.experiments.open_gate(world.fence, c) == 0


async def test_a_gate_that_opens_after_what_it_follows_releases_what_succeeded(world: World) -> None:
    a, b, c = await world.submit("e", step(0, 3), step(1, 1), step(2, 6, foreach=(0,), fan_out=2, after=(1,)))
    keys = await world.claim(a, 3)
    await world.end(keys[:1])
    await world.end(keys[1:2], TaskState.FAILED, cause=Cause.EXIT_CODE)
    assert await world.counts(c) == {"pending": 4, "skipped": 2}
    assert (await world.end(await world.claim(b, 1))).released == 2
    assert await world.counts(c) == {"pending": 2, "ready": 2, "skipped": 2}
    assert (await world.end(keys[2:])).released == 2


async def test_infrastructure_failures_have_a_cap_of_their_own(world: World) -> None:
    (a,) = await world.submit("e", step(0, 1))
    for attempt in range(1, MAX_INFRASTRUCTURE_FAILURES + 1):
        await world.end_back_offs()
        assert await world.claim(a, 1) == [(a, 0, attempt)]
        await world.end([(a, 0, attempt)], TaskState.FAILED, cause=Cause.INFRASTRUCTURE)
    assert await world.counts(a) == {"failed": 1}
    assert await world.status("e") == "FAILED"


async def test_progress_never_goes_back_and_the_last_report_of_a_batch_counts(world: World) -> None:
    (a,) = await world.submit("e", step(0, 2))
    one, two = await world.claim(a, 2)
    await world.end([one, two], TaskState.COLLECTING)
    await world.end([one], TaskState.RUNNING)
    assert await world.counts(a) == {"collecting": 2}
    await world.end([one])
    await world.end([one], TaskState.RUNNING)
    assert await world.counts(a) == {"succeeded": 1, "collecting": 1}
    assert (await world.end([two], TaskState.CANCELED)).released == 1
    assert await world.counts(a) == {"succeeded": 1, "ready": 1}


async def test_a_report_that_cannot_be_stored_ends_its_task_and_no_other(world: World) -> None:
    """Each store may have its own idea of what it holds; nothing is left open, and nobody has to ask again."""
    (a,) = await world.submit("e", step(0, 3))
    keys = await world.claim(a, 3)
    reports = [
        Report(*key, TaskState.SUCCEEDED, started_at=1.0, exit_code=code)
        for key, code in zip(keys, (0, 70000, 0), strict=True)
    ]
    contexts = {a: ReportContext(world.experiment_of[a], RetryPolicy(), 1.0, 0.0)}
    outcome = await world.tasks.report(world.worker, reports, contexts, Charge(0.0, 0.0))
    assert outcome.stale == []
    assert await world.status(world.experiment_of[a]) in ("SUCCEEDED", "PARTIAL")
    counts = await world.counts(a)
    assert counts["succeeded"] >= 2
    assert await world.attempts() == 3


async def test_an_expired_lease_takes_what_started_as_lost_and_the_rest_as_it_was(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    held = await world.claim(a, 3)
    await world.end(held[:1], TaskState.RUNNING)
    await world.end_lease(world.worker)
    assert await world.claim(a, 3) == []
    assert (await world.tasks.planning_state()).workers == []
    reaper = await world.leases.take("worker-lifecycle", "test", 10)
    _, looked_at = await world.workers.expire_workers(reaper, 30, None)
    await world.end_lease(world.worker)
    lost, _ = await world.workers.expire_workers(reaper, 30, LastLook(looked_at, 0.0))
    assert lost == [world.worker]
    assert (await world.workers.take_back(reaper))[0] == 3
    assert await world.attempts() == 1
    assert (await world.workers.expire_workers(reaper, 30, LastLook(looked_at, 0.0)))[0] == []
    assert (await world.workers.take_back(reaper))[0] == 0
    with pytest.raises(NotFoundError):
        await world.workers.renew_worker(world.worker, 30)
    with pytest.raises(NotFoundError):
        await world.workers.drain_worker(world.worker)
    await world.leases.take("worker-lifecycle", "successor", 10)
    with pytest.raises(LeaseLostError):
        await world.workers.expire_workers(reaper, 30, None)
    with pytest.raises(LeaseLostError):
        await world.workers.take_back(reaper)


@pytest.mark.parametrize(
    ("at_s", "ago_s"), [(0.0, None), (-20.5, 20.5), (-10.0, 2.0), (10.0, 2.0)],
    ids=["restarted", "away", "clock set forward", "clock set back"],
)  # fmt: skip
async def test_a_reaper_that_was_away_gives_everybody_a_lease_before_it_ends_any(
    world: World, at_s: float, ago_s: float | None
) -> None:
    """The last look as the database's clock has it, relative to now, and as that of the reaper has it."""
    (a,) = await world.submit("e", step(0, 1))
    held = await world.claim(a, 1)
    reaper = await world.leases.take("worker-lifecycle", "test", 10)
    _, now = await world.workers.expire_workers(reaper, 30, None)
    await world.end_lease(world.worker)
    last = None if ago_s is None else LastLook(now + at_s, ago_s)
    lost, again = await world.workers.expire_workers(reaper, 30, last)
    assert lost == []
    assert again >= now
    assert [w.id for w in (await world.tasks.planning_state()).workers] == [world.worker]
    assert (await world.end(held)).stale == []
    other = await world.workers.register_worker(replace(hello("other"), facts={"process": "p"}), 30)
    assert await world.workers.worker_processes() == {other: "p"}
    assert (await world.workers.expire_workers(reaper, 30, last, [other]))[0] == [other], "it is known to have ended"


async def test_a_lease_that_ran_out_unseen_can_still_be_renewed(world: World) -> None:
    (a,) = await world.submit("e", step(0, 1))
    held = await world.claim(a, 1)
    await world.end_lease(world.worker)
    assert await world.workers.renew_worker(world.worker, 30) == WorkerOrders()
    assert (await world.end(held)).stale == []


async def test_a_draining_worker_claims_nothing_and_a_leaving_one_gives_back(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    held = await world.claim(a, 2)
    await world.end(held[:1], TaskState.RUNNING)
    await world.workers.drain_worker(world.worker)
    assert await world.claim(a, 1) == []
    assert await world.workers.renew_worker(world.worker, 30) == WorkerOrders(draining=True)
    assert [w.draining for w in (await world.tasks.planning_state()).workers] == [True]
    assert await world.workers.remove_worker(world.worker) == 2
    assert await world.workers.remove_worker(world.worker) == 0
    assert await world.counts(a) == {"ready": 3}
    assert (await world.end(held)).stale == held


async def test_planning_state_counts_ready_remaining_and_active(world: World) -> None:
    a, b = await world.submit("e", step(0, 4), step(1, 4, foreach=(0,)))
    held = await world.claim(a, 2)
    await world.end(held[:1])
    state = await world.tasks.planning_state()
    resource = state.resources[0].id
    found = {s.step_id: (s.ready, s.remaining, dict(s.active)) for s in state.steps}
    assert found == {a: (2, 3, {resource: 1}), b: (1, 4, {})}
    assert [(w.id, w.resource, w.capacity.cpu) for w in state.workers] == [(world.worker, "local", 2)]
    (known,) = await world.tasks.step_specs([b, 10_000])
    assert (known.name, known.position, known.n, known.step_ids) == ("s1", 1, 4, {0: a, 1: b})
    assert CompiledStep.from_json(known.spec) == step(1, 4, foreach=(0,))


async def test_a_draft_runs_nothing_until_it_is_started(world: World) -> None:
    (a,) = await world.submit("e", step(0, 1), start=False)
    assert await world.claim(a, 1) == []
    assert (await world.tasks.planning_state()).steps == []
    with pytest.raises(ConflictError):
        await world.experiments.retry("e")
    with pytest.raises(ConflictError):
        await world.experiments.pause("e", "")
    assert await world.experiments.start("e") is ExperimentState.RUNNING
    assert await world.experiments.start("e") is ExperimentState.RUNNING
    assert len(await world.claim(a, 1)) == 1


async def test_a_cancel_while_paused_and_an_end_while_paused(world: World) -> None:
    (a,) = await world.submit("e", step(0, 1))
    held = await world.claim(a, 1)
    await world.experiments.pause("e", "")
    assert (await world.end(held)).finished == ["e"]
    with pytest.raises(ConflictError):
        await world.experiments.resume("e")
    assert await world.experiments.cancel("e", "") == (ExperimentState.SUCCEEDED, [])
    await world.submit("f", step(0, 1))
    await world.experiments.pause("f", "")
    assert await world.experiments.cancel("f", "") == (ExperimentState.CANCELED, [])


async def test_retry_waits_for_canceled_processes_and_keeps_what_succeeded(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    held = await world.claim(a, 2)
    await world.end(held[:1])
    await world.experiments.cancel("e", "")
    for attempt in (world.experiments.retry, world.experiments.delete):
        with pytest.raises(ConflictError):
            await attempt("e")
    await world.workers.remove_worker(world.worker)
    assert await world.experiments.holding("e") == 0
    assert await world.experiments.retry("e") == 2
    assert await world.counts(a) == {"ready": 2, "succeeded": 1}
    assert await world.experiments.retry("e") == 0


async def test_storages_are_told_in_order(world: World) -> None:
    for name in ("b", "a", "b"):
        await world.workers.ensure_storage(StorageLocation(name, "posix", f"/{name}"))
    assert [s.root for s in await world.workers.storages()] == ["/a", "/b"]


async def test_a_pause_recalls_what_was_claimed_ahead_and_leaves_what_runs(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    held = await world.claim(a, 2)
    await world.end(held[:1], TaskState.RUNNING)
    await world.experiments.pause("e", "lunch")
    assert await world.workers.renew_worker(world.worker, 30) == WorkerOrders(recalled=(a,))
    await world.end(held[1:], TaskState.CANCELED)
    assert await world.workers.renew_worker(world.worker, 30) == WorkerOrders()
    assert await world.counts(a) == {"ready": 2, "running": 1}
    await world.experiments.resume("e")
    assert await world.claim(a, 3) == [(a, 1, 2), (a, 2, 1)]


async def test_attempts_and_outputs_are_summed_up_by_step(world: World) -> None:
    a, b = await world.submit("e", step(0, 4), step(1, 4))
    good, bad, grey = (await world.claim(a, 4))[:2], *([key] for key in await world.claim(b, 2))
    outputs = (Output("OUT", "k", 30, "ff"), Output("LOG", "l", 10, "ff"))
    await world.end(good, outputs=outputs, peak_memory_bytes=1000)
    await world.end(bad, TaskState.FAILED, cause=Cause.OUT_OF_MEMORY, peak_memory_bytes=4000)
    await world.end(grey, TaskState.FAILED, cause=Cause.EXIT_CODE, peak_memory_bytes=9000)
    one, two = await world.tasks.attempt_statistics([a, b])
    assert (one.step_id, one.resource, one.attempts, one.failed, one.n) == (a, "local", 2, 0, 2)
    assert (one.memory_n, one.largest_bytes) == (2, 1000)
    assert one.memory_log_sum == pytest.approx(2 * log(1000))
    assert one.memory_log_square_sum == pytest.approx(2 * log(1000) ** 2)
    assert (two.attempts, two.failed, two.n, two.memory_n, two.memory_log_sum) == (2, 2, 0, 1, pytest.approx(log(4000)))
    sizes = [(s.step_id, s.name, s.n, s.size_bytes) for s in await world.tasks.output_statistics([a, b])]
    assert sizes == [(a, "LOG", 2, 20.0), (a, "OUT", 2, 60.0)]


async def test_resources_have_the_storage_at_hand_unless_told_otherwise(world: World) -> None:
    (resource,) = (await world.tasks.planning_state()).resources
    assert (resource.name, resource.bandwidth_bytes_per_s) == ("local", 0.0)


async def test_a_program_is_known_by_its_latest_run_that_succeeded(world: World) -> None:
    other = ProgramTemplate(command=("other",))
    a, b = await world.submit("first", step(0, 2), step(1, 2, program=other))
    await world.end(await world.claim(a, 1))
    await world.end(await world.claim(b, 1), TaskState.FAILED, cause=Cause.EXIT_CODE)
    await world.submit("second", step(0, 2))
    programs = [ProgramTemplate(command=("true",)).to_json(), other.to_json(), ProgramTemplate().to_json()]
    assert await world.tasks.forerunners("default", programs) == [a, None, None]
    assert await world.tasks.forerunners("elsewhere", programs) == [None, None, None]


async def test_the_resource_of_a_worker_is_known_after_its_lease(world: World) -> None:
    await world.end_lease(world.worker)
    assert await world.tasks.resource_of(world.worker) == "local"
    assert await world.tasks.resource_of(10**6) == ""


async def test_a_submission_that_is_stored_again_is_the_same_one(world: World) -> None:
    """The answer to a commit may be lost, and then the whole transaction is tried again."""
    ids = await world.submit("e", step(0, 3))
    assert await world.submit("e", step(0, 3)) == ids
