"""`explain`: why something is not running, or how it went, in sentences.

What is ready is explained by the planner itself (`TaskScheduler.explain`), everything else by the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.views import (
    ExperimentView,
    Explanation,
    StepView,
    TaskView,
    Verdict,
)
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.queries import Queries

#: `TaskScheduler.explain`: a step by the plan in force, empty while no plan knows it.
PlanSource = Callable[[int], Awaitable[Mapping[str, Any]]]
_REMEDIES = {
    "cut_off": "bring it back: start a worker there, or `airavata resource update NAME --enable`",
    "denied": "let the document allow more resources",
    "label": "label a resource with what the step requires",
    "avoided": "let the step allow more resources",
    "too_large": "ask for less, or start a worker that is large enough",
    "budget": "raise the budget",
    "deadline": "move the deadline, or add workers",
    "full": "wait, raise the priority, or add workers",
    "no_resource": "start a worker",
}
#: A request of memory is called generous when it is this many times what nearly all of so many attempts used.
_GENEROUS, _ENOUGH = 2.0, 20
_NOTICED_WAIT_S = 1.0


class Explainer:
    """Puts together what the database and the plan know."""

    def __init__(self, queries: Queries, clock: Clock, plan: PlanSource) -> None:
        self._queries = queries
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
        parts = (f"{part.subject.rpartition('/')[2]}: {part.summary}" for part in waiting)
        reasons = (*((view.reason,) if view.reason else ()), *parts)
        resources = next((part.resources for part in waiting if part.resources), ())
        remedy = "; or ".join(dict.fromkeys(part.remedy for part in waiting if part.remedy))
        return Explanation(view.id, view.status, summary, reasons, resources, remedy=remedy)

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
        ready = step.counts["ready"]
        summary = f"{_n(ready, 'task')} {'is' if ready == 1 else 'are'} ready and {_active(step.counts)} run"
        return await self._waiting(view, step, subject, summary, _count_reasons(step.counts))

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
            return await self._waiting(view, step, subject, "it is ready", history, _ahead(step, task.index))
        if task.state is TaskState.PENDING:
            return Explanation(subject, "PENDING", _needs_sentence(view, step), history)
        sentence, remedy = _ended_sentence(view, step, task)
        return Explanation(subject, task.state.name, sentence, history, remedy=remedy)

    async def _waiting(
        self,
        view: ExperimentView,
        step: StepView,
        subject: str,
        summary: str,
        details: tuple[str, ...],
        ahead: int = 0,
    ) -> Explanation:
        """About tasks that are ready: what the plan in force says of them. ``ahead``: tasks of the step before it."""
        found = await self._plan(step.step_id)
        if not found:
            return Explanation(subject, "READY", f"{summary}; the next plan will consider the step", details)
        # What only says again what stands beside a resource is left out.
        said = {f"{verdict['resource']}: {verdict['text']}" for verdict in found["verdicts"]}
        reasons = tuple(reason["text"] for reason in found["reasons"] if reason["text"] not in said)
        expected = (_runtime_sentence(found), *_memory_sentences(found), *_wait_sentences(found))
        expected = (*expected, *_forecast_sentences(view, found))
        return Explanation(
            subject,
            "READY",
            f"{summary}; {_plan_sentence(found)}",
            (*details, *reasons, *expected, *((view.reason,) if view.reason else ())),
            tuple(Verdict(v["resource"], v["feasible"], v["text"]) for v in found["verdicts"]),
            _remedy(found),
            None if found["position"] is None else found["position"] + ahead,
            _expected_start(found, ahead),
        )


def _plan_sentence(found: Mapping[str, Any]) -> str:
    if found["shares"]:
        places = ", ".join(f"{_n(places, 'place')} on {name}" for name, places in found["shares"].items())
        return f"the plan gives the step {places}"
    return "the plan has no place for the step"


def _ahead(step: StepView, index: int) -> int:
    """Ready tasks of the step that are started earlier: in the order of their numbers, so the last ones are ready."""
    return max(0, index - (step.n - step.counts.get("ready", 0)))


def _expected_start(found: Mapping[str, Any], ahead: int) -> float | None:
    """When the first of the step starts, and later by the rounds that those before it take."""
    places: int = sum(found["shares"].values())
    first: float | None = found["expected_start"]
    if first is None or not places:
        return first
    runtime: Mapping[str, float] = found["runtime_on"].get(found["expected_resource"], found["runtime"])
    return first + ahead // places * runtime["mean_s"]


def _runtime_sentence(found: Mapping[str, Any]) -> str:
    """What a task is believed to take, and how sure that is."""
    about = [("at speed 1", found["runtime"]), *((f"on {name}", e) for name, e in found["runtime_on"].items())]
    parts = [f"{e['mean_s']:.3g} s {where} ({e['low_s']:.3g} to {e['high_s']:.3g} s)" for where, e in about]
    seen = found["runtime"]["n"]
    source = f"from {_n(seen, 'finished attempt')}" if seen else "nothing was seen yet"
    if found["earlier_attempts"]:
        source += f", {found['earlier_attempts']} of them of an earlier run of the same program"
    fails = f"; {found['failure_rate']:.0%} of attempts fail" if found["failure_rate"] >= 0.005 else ""
    return f"a task is expected to take {', '.join(parts)}: {source}{fails}"


def _memory_sentences(found: Mapping[str, Any]) -> list[str]:
    """What a task was seen to use, and what follows from it."""
    memory = found["memory"]
    if memory is None:
        return []
    asked, planned = memory["asked_bytes"], found["planned_memory_bytes"]
    span = f"{_gb(memory['low_bytes'])} to {_gb(memory['high_bytes'])}"
    most = f"the most in {_n(memory['n'], 'attempt')} was {_gb(memory['largest_bytes'])}"
    sentence = f"a task uses about {_gb(memory['mean_bytes'])} of memory ({span}; {most})"
    if planned > asked:
        asks = f"asks for {_gb(asked)}" if asked else "asks for none"
        return [f"{sentence}; it {asks}, so the plan counts with {_gb(planned)}: say so with `memory`"]
    if asked > _GENEROUS * memory["high_bytes"] and memory["n"] >= _ENOUGH:
        return [f"{sentence}; it asks for {_gb(asked)}: with less `memory`, more could run at a time"]
    return [sentence]


def _wait_sentences(found: Mapping[str, Any]) -> list[str]:
    """How long resources kept work waiting, where that can be noticed."""
    waits = [(row["resource"], row["with_worker"]) for row in found["queue_waits"] if row["with_worker"]]
    return [
        f"on {name} tasks start {wait['mean_s']:.3g} s after they are wanted "
        f"({wait['low_s']:.3g} to {wait['high_s']:.3g} s, seen {wait['n']} times)"
        for name, wait in waits
        if wait["mean_s"] >= _NOTICED_WAIT_S
    ]


def _s(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.3g} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.3g} MB"


def _forecast_sentences(view: ExperimentView, found: Mapping[str, Any]) -> list[str]:
    forecast = found["forecast"]
    # Nobody can tell the end of an experiment of which a part has no place.
    placeless = found["unplaced"] and not found["shares"]
    if forecast is None or forecast["finish_s"] is None or placeless:
        return []
    span = f"{_s(forecast['finish_low_s'])} to {_s(forecast['finish_high_s'])} s"
    end = f"is expected to end in {_s(forecast['finish_s'])} s ({span}) and to cost {forecast['cost']:.4g} more"
    sentences = []
    if forecast["unplaced"]:
        sentences.append(f"{_n(forecast['unplaced'], 'task')} of the experiment cannot run as things are")
    if forecast["placed"]:
        sentences.append(f"{'the rest' if forecast['unplaced'] else 'the experiment'} {end}")
    if view.budget is not None:
        sentences.append(f"of its budget of {view.budget:.6g}, {view.cost:.4g} is spent")
    if view.deadline is not None and forecast["placed"]:
        sentences.append(f"the risk that it misses its deadline is {forecast['deadline_risk']:.0%}")
    return sentences


def _remedy(found: Mapping[str, Any]) -> str:
    """What lifts the obstacle, where tasks have no place."""
    if not found["unplaced"]:
        return ""
    causes = [reason["cause"] for reason in (*found["reasons"], *found["verdicts"])]
    return "; or ".join(dict.fromkeys(_REMEDIES[cause] for cause in causes if cause in _REMEDIES))


def _n(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _step_of(view: ExperimentView, name: str) -> StepView:
    for step in view.steps:
        if step.name == name:
            return step
    message = f"experiment {view.id} has no step {name!r}"
    raise NotFoundError(message, remedy=f"its steps are {', '.join(step.name for step in view.steps)}")


def _unfinished(step: StepView) -> bool:
    ended = sum(step.counts.get(name, 0) for name in ("succeeded", "failed", "skipped", "canceled"))
    return ended < step.n


def _active(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("assigned", "staging", "running", "collecting"))


def _count_reasons(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{n} {name}" for name, n in counts.items() if n and name != "total")


def _status_sentence(view: ExperimentView) -> str:
    return {
        ExperimentState.DRAFT: "it was stored and not started",
        ExperimentState.PAUSED: "; ".join(filter(None, (view.reason, "nothing of the experiment is started"))),
        ExperimentState.SUCCEEDED: "all its tasks succeeded",
        ExperimentState.PARTIAL: "it has ended; some tasks failed for good",
        ExperimentState.FAILED: "it has ended and no task succeeded",
        ExperimentState.CANCELED: view.reason or "somebody canceled it",
    }[view.status]


def _status_remedy(view: ExperimentView) -> str:
    if view.status is ExperimentState.PAUSED:
        more = " --budget AMOUNT" if view.budget is not None and "budget" in view.reason else ""
        more += " --deadline WHEN" if view.hard_deadline and "deadline" in view.reason else ""
        return f"airavata experiment resume {view.id}{more}"
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
