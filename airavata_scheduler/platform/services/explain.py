"""`explain`: why something is not running, or how it went, in sentences."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.views import (
    ExperimentView,
    Explanation,
    ResourceView,
    StepView,
    TaskView,
    Verdict,
)
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.repository import TaskStore
from airavata_scheduler.platform.services.step_cache import KnownStep, StepCache

#: The plan in force as JSON, empty while the scheduler does not answer.
PlanSource = Callable[[], Awaitable[Mapping[str, Any]]]


class Explainer:
    """Puts together what the database and the plan know."""

    def __init__(self, queries: Queries, tasks: TaskStore, clock: Clock, plan: PlanSource) -> None:
        self._queries = queries
        self._steps = StepCache(tasks)
        self._clock = clock
        self._plan = plan

    async def explain(self, experiment: str, step: str | None, index: int | None) -> Explanation:
        """About the experiment, one step of it, or one task of that step. NotFoundError if there is none."""
        view = await self._queries.experiment(experiment)
        if step is None:
            return await self._experiment(view)
        about = _step_of(view, step)
        if index is None:
            return await self._step(view, about)
        return await self._task(view, about, await self._queries.task(experiment, step, index))

    async def _experiment(self, view: ExperimentView) -> Explanation:
        if view.status.finished or view.status in {ExperimentState.PAUSED, ExperimentState.DRAFT}:
            return Explanation(
                view.id, view.status, _status_sentence(view), _count_reasons(view.counts), remedy=_status_remedy(view)
            )
        waiting = [await self._step(view, step) for step in view.steps if _unfinished(step)]
        summary = _progress_sentence(view)
        reasons = tuple(f"{part.subject.rpartition('/')[2]}: {part.summary}" for part in waiting)
        resources = next((part.resources for part in waiting if part.resources), ())
        return Explanation(view.id, view.status, summary, reasons, resources)

    async def _step(self, view: ExperimentView, step: StepView) -> Explanation:
        subject = f"{view.id}/{step.name}"
        if view.status in {ExperimentState.PAUSED, ExperimentState.DRAFT}:
            return Explanation(subject, view.status, _status_sentence(view), remedy=_status_remedy(view))
        if not _unfinished(step):
            return Explanation(subject, "ENDED", f"all {step.n} tasks have ended", _count_reasons(step.counts))
        if not step.counts.get("ready") and step.counts.get("pending"):
            return Explanation(subject, "PENDING", _needs_sentence(view, step), _count_reasons(step.counts))
        if not step.counts.get("ready"):
            return Explanation(subject, "RUNNING", f"{_active(step.counts)} tasks run, none waits")
        known = (await self._steps.get([step.step_id]))[step.step_id]
        verdicts, planned = await self._verdicts(known)
        running = _active(step.counts)
        summary = f"{step.counts['ready']} tasks are ready and {running} run; {planned}"
        return Explanation(subject, "READY", summary, _count_reasons(step.counts), verdicts, _no_place_remedy(verdicts))

    async def _task(self, view: ExperimentView, step: StepView, task: TaskView) -> Explanation:
        subject = f"{view.id}/{step.name}/{task.index}"
        history = tuple(
            f"attempt {a.attempt} on {a.worker or 'a worker'}: {a.state.name}"
            + (f" ({a.cause}: {a.message})" if a.cause else f" after {a.wall_s:.3g} s")
            for a in task.attempts
        )
        if task.state is TaskState.READY and view.status is ExperimentState.RUNNING:
            if task.not_before is not None and task.not_before > self._clock.time():
                wait_s = task.not_before - self._clock.time()
                summary = f"it failed and is tried again in {wait_s:.0f} s, after its back-off"
                return Explanation(subject, "READY", summary, history, expected_start=task.not_before)
            known = (await self._steps.get([step.step_id]))[step.step_id]
            verdicts, planned = await self._verdicts(known)
            return Explanation(
                subject, "READY", f"it is ready; {planned}", history, verdicts, _no_place_remedy(verdicts)
            )
        if task.state is TaskState.PENDING:
            return Explanation(subject, "PENDING", _needs_sentence(view, step), history)
        sentence, remedy = _ended_sentence(view, step, task)
        return Explanation(subject, task.state.name, sentence, history, remedy=remedy)

    async def _verdicts(self, known: KnownStep) -> tuple[tuple[Verdict, ...], str]:
        """A verdict for each resource, and a sentence on the plan."""
        plan = await self._plan()
        mine = [s for s in plan.get("shares", ()) if s["step_id"] == known.spec.step_id]
        shares = {share["resource"]: share["places"] for share in mine}
        verdicts = tuple(_verdict(known, resource, shares) for resource in await self._queries.resources())
        if shares:
            places = ", ".join(f"{places} places on {name}" for name, places in shares.items())
            return verdicts, f"the plan gives them {places}"
        reasons = [r for u in plan.get("unplaced", ()) if u["step_id"] == known.spec.step_id for r in u["reasons"]]
        if reasons:
            return verdicts, "the plan has no place for them: " + "; ".join(reasons)
        return verdicts, "the next plan will consider them"


def _step_of(view: ExperimentView, name: str) -> StepView:
    for step in view.steps:
        if step.name == name:
            return step
    message = f"experiment {view.id} has no step {name!r}"
    raise NotFoundError(message, remedy=f"its steps are {', '.join(step.name for step in view.steps)}")


def _verdict(known: KnownStep, resource: ResourceView, shares: Mapping[str, int]) -> Verdict:
    request = known.step.program.request
    if not resource.enabled:
        return Verdict(resource.name, feasible=False, reason="it is disabled")
    if not resource.workers:
        return Verdict(resource.name, feasible=False, reason="it has no live worker")
    if not known.step.may_use(resource.name):
        return Verdict(resource.name, feasible=False, reason="the document does not allow it")
    if not request.fits_in(resource.largest):
        return Verdict(resource.name, feasible=False, reason=_too_large(request, resource.largest))
    if resource.name in shares:
        total = request.copies_in(resource.capacity)
        reason = f"planned: {shares[resource.name]} places, of {total} that fit; {resource.running} tasks run there now"
        return Verdict(resource.name, feasible=True, reason=reason)
    return Verdict(
        resource.name, feasible=True, reason="possible, but the plan puts them elsewhere or serves others first"
    )


def _too_large(request: Capacity, largest: Capacity) -> str:
    lacks = [
        f"needs {want:g} {name}, its largest worker has {have:g}"
        for name, want, have in (
            ("cpu", request.cpu, largest.cpu),
            ("bytes of memory", request.memory_bytes, largest.memory_bytes),
            ("gpu", request.gpu, largest.gpu),
            ("bytes of disk", request.disk_bytes, largest.disk_bytes),
            *((name, want, largest.named.get(name, 0.0)) for name, want in request.named.items()),
        )
        if want > have
    ]
    return "; ".join(lacks)


def _unfinished(step: StepView) -> bool:
    ended = sum(step.counts.get(name, 0) for name in ("succeeded", "failed", "skipped", "canceled"))
    return ended < step.n


def _active(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("assigned", "staging", "running", "collecting"))


def _count_reasons(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{n} {name}" for name, n in counts.items() if n and name != "total")


def _status_sentence(view: ExperimentView) -> str:
    why = f": {view.reason}" if view.reason else ""
    return {
        ExperimentState.DRAFT: "it was stored and not started",
        ExperimentState.PAUSED: f"it is paused{why}; nothing of it is started",
        ExperimentState.SUCCEEDED: "all its tasks succeeded",
        ExperimentState.PARTIAL: "it has ended; some tasks failed for good",
        ExperimentState.FAILED: "it has ended and no task succeeded",
        ExperimentState.CANCELED: f"it was canceled{why}",
    }[view.status]


def _status_remedy(view: ExperimentView) -> str:
    if view.status is ExperimentState.PAUSED:
        return f"airavata experiment resume {view.id}"
    if view.status in {ExperimentState.PARTIAL, ExperimentState.FAILED}:
        return f"airavata experiment tasks {view.id} --failed, then airavata experiment retry {view.id}"
    return ""


def _progress_sentence(view: ExperimentView) -> str:
    ended = sum(view.counts.get(name, 0) for name in ("succeeded", "failed", "skipped", "canceled"))
    return f"{ended} of {view.counts.get('total', 0)} tasks have ended, {_active(view.counts)} run"


def _needs_sentence(view: ExperimentView, step: StepView) -> str:
    parts = []
    for need in (_step_of(view, name) for name in step.needs):
        done = need.counts.get("succeeded", 0)
        if done < need.n:
            parts.append(f"{need.name} ({done} of {need.n} succeeded)")
    return f"waits for {', '.join(parts)}" if parts else "what it needs is done; it is being released"


def _ended_sentence(view: ExperimentView, step: StepView, task: TaskView) -> tuple[str, str]:
    if task.state is TaskState.SUCCEEDED:
        return f"it succeeded in attempt {task.attempt}", ""
    if task.state is TaskState.FAILED:
        look = f"airavata experiment logs {view.id} {step.name} {task.index} --stderr"
        return f"it failed for good: {task.cause}: {task.message}", look
    if task.state is TaskState.SKIPPED:
        return f"it was skipped because a task of {' or '.join(step.needs)} did not succeed", ""
    if task.state is TaskState.CANCELED:
        return _status_sentence(view), ""
    if task.state is TaskState.READY:
        return _status_sentence(view), _status_remedy(view)
    return f"it is with worker {task.worker}, attempt {task.attempt}", ""


def _no_place_remedy(verdicts: tuple[Verdict, ...]) -> str:
    if verdicts and not any(verdict.feasible for verdict in verdicts):
        return "no resource can run it now: start a worker that is large enough, or ask for less"
    return ""
