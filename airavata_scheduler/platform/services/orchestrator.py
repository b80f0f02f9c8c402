"""`ExperimentOrchestrator`: experiments from document to end, and the loop that moves them on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from airavata_scheduler.platform.domain.compile import ResourceOffer, check_fits, compile_document
from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep
from airavata_scheduler.platform.domain.derive import merge, needed, restrict
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.document_model import ExperimentDocument
from airavata_scheduler.platform.domain.document_yaml import load
from airavata_scheduler.platform.domain.errors import (
    ConflictError,
    InvalidDocumentError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from airavata_scheduler.platform.domain.quantities import DEADLINE_FORMS, parse_deadline
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.views import ExperimentView, Explanation
from airavata_scheduler.platform.interfaces import (
    BUDGET_EXHAUSTED,
    DEADLINE_OUT_OF_REACH,
    Alarm,
    DataMover,
    Derivation,
    Submission,
    Validation,
)
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.repository import ExperimentStore, Fence, NewExperiment, TaskStore
from airavata_scheduler.platform.services.explain import Explainer
from airavata_scheduler.platform.services.merge_patch import merge_patch
from airavata_scheduler.platform.services.preview import Previewer
from airavata_scheduler.platform.services.step_cache import StepCache

_PERIOD_S = 0.5
_IDLE_PERIOD_S = 5.0
#: What is submitted now has made no progress before that; a short sweep is over, and its end is announced anyway.
_FIRST_PROGRESS_S = 2.0
_CANCEL_WAIT_S = 8.0
#: No process ends and is reported sooner. Most are by then; whoever takes long is looked for less and less often.
_CANCEL_SOONEST_S = 0.015
_CANCEL_FIRST_PAUSE_S = 0.005
_CANCEL_LONGEST_PAUSE_S = 0.1
_SELECTIONS: Mapping[str, tuple[TaskState, ...]] = {
    "failed": (TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELED),
    "succeeded": (TaskState.SUCCEEDED,),
}


class ExperimentOrchestratorService:
    """See `interfaces.ExperimentOrchestrator`.

    ``wake_scheduler`` is called when tasks may have become ready, ``notify_canceled`` with workers that hold canceled
    ones. Both are nudges: when one is lost, the next look at the database finds the same.
    """

    def __init__(
        self,
        store: ExperimentStore,
        tasks: TaskStore,
        queries: Queries,
        mover: DataMover,
        explainer: Explainer,
        fence: Fence,
        clock: Clock,
        *,
        wake_scheduler: Callable[[], None] = lambda: None,
        notify_canceled: Callable[[Sequence[int]], Awaitable[None]],
        previewer: Previewer,
    ) -> None:
        self._store = store
        self._steps = StepCache(tasks)
        self._queries = queries
        self._mover = mover
        self._explainer = explainer
        self._fence = fence
        self._clock = clock
        self._wake_scheduler = wake_scheduler
        self._notify_canceled = notify_canceled
        self._previewer = previewer
        self._advance = asyncio.Event()
        self._gates: dict[int, asyncio.Task[None]] = {}  #: step id -> who writes its manifest, and opens it

    # ---------------------------------------------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Open the gates of gather steps and announce progress; never returns."""
        seen: Mapping[str, int] = {}
        try:
            while True:
                self._advance.clear()
                await self._open_gates()
                seen = await self._store.announce_progress(self._fence, seen)
                try:
                    async with asyncio.timeout(_PERIOD_S if seen else _IDLE_PERIOD_S):
                        await self._advance.wait()
                except TimeoutError:
                    pass
        finally:
            for opening in self._gates.values():
                opening.cancel()
            self._gates.clear()

    async def advance(self) -> None:
        """Look soon: something ended."""
        self._advance.set()

    async def _open_gates(self) -> None:
        """Each gate by itself: a manifest of millions of names takes minutes, and nobody else waits for it."""
        for step_id, opening in list(self._gates.items()):
            if opening.done():
                del self._gates[step_id]
                opening.result()
        for step_id in await self._store.due_manifests():
            if step_id not in self._gates:
                self._gates[step_id] = asyncio.create_task(self._open_gate(step_id))

    async def _open_gate(self, step_id: int) -> None:
        """What does not work now is due at a later look again."""
        with suppress(UnavailableError):
            await self._mover.write_manifest(step_id)
            await self._store.open_gate(self._fence, step_id)
            self._wake_scheduler()

    # -------------------------------------------------------------------------------------------------- submitting

    async def validate(self, submission: Submission) -> Validation:
        """Everything that `submit` checks."""
        _, compiled, warnings = await self._compile(submission)
        return Validation(
            compiled.name, compiled.n_tasks, tuple(_summary(compiled, s) for s in compiled.steps), warnings
        )

    async def preview(self, submission: Submission, *, frontier: bool = False) -> Mapping[str, Any]:
        """As `validate`, and then planned together with everything that runs."""
        _, compiled, warnings = await self._compile(submission)
        found = await self._previewer.preview(compiled, submission.project, frontier=frontier)
        return {**found, "warnings": list(warnings)}

    async def submit(self, actor: str, submission: Submission) -> ExperimentView:
        """Refuse, or store in one transaction."""
        source, compiled, _ = await self._compile(submission)
        return await self._insert(actor, submission.project, source, compiled, submission)

    async def _compile(self, submission: Submission) -> tuple[dict[str, Any], CompiledExperiment, tuple[str, ...]]:
        # Parsing and checking a large document takes a while; the loop answers others meanwhile.
        source, compiled = await asyncio.to_thread(_read, submission, self._clock.time())
        return source, compiled, await self._check_fits(compiled)

    async def _check_fits(self, compiled: CompiledExperiment) -> tuple[str, ...]:
        offers = [
            ResourceOffer(resource.name, resource.largest, resource.labels)
            for resource in await self._queries.resources()
            if resource.workers
        ]
        if not offers:
            return ("no resource has a worker at the moment: tasks will wait for one",)
        problems = check_fits(compiled, offers)
        if problems:
            raise InvalidDocumentError(problems)
        return ()

    async def _insert(
        self,
        actor: str,
        project: str,
        source: Mapping[str, Any],
        compiled: CompiledExperiment,
        request: Submission | Derivation,
        derived_from: str | None = None,
    ) -> ExperimentView:
        new = NewExperiment(
            id=_new_id(),
            owner=actor,
            project=project,
            compiled=compiled,
            document=source,
            start=request.start,
            idempotency_key=request.idempotency_key,
            derived_from=derived_from,
            request_digest=_digest(project, source, derived_from, request),
        )
        experiment, fresh = await self._store.insert(new)
        if fresh and request.start:
            self._wake_scheduler()
            asyncio.get_running_loop().call_later(_FIRST_PROGRESS_S, self._advance.set)
        return await self._queries.experiment(experiment)

    async def derive(self, actor: str, experiment: str, derivation: Derivation) -> ExperimentView:
        """The document is compiled anew with the changes, then restricted to the tasks chosen."""
        old = await self._queries.experiment(experiment)
        source = merge_patch(dict(await self._queries.document(experiment)), derivation.changes or {})
        if derivation.name is not None:
            source["name"] = derivation.name
        submission = Submission(source, old.project, derivation.parameters)
        source, compiled, _ = await self._compile(submission)
        chosen = await self._chosen(old, compiled, derivation.select)
        compiled = restrict(compiled, needed(compiled.steps, chosen))
        return await self._insert(actor, old.project, source, compiled, derivation, experiment)

    async def _chosen(
        self, old: ExperimentView, compiled: CompiledExperiment, select: str
    ) -> dict[int, list[tuple[int, int]]]:
        """Position in the document's own steps -> indexes, in the numbering of the whole document."""
        if select not in {"all", *_SELECTIONS}:
            message = f"{select!r} is not a choice of tasks"
            raise InvalidRequestError(message, path="select", remedy="use all, failed or succeeded")
        states = _SELECTIONS.get(select, tuple(TaskState))
        ranges = await self._store.indexes(old.id, states)
        if not ranges:
            message = f"experiment {old.id} has no tasks to select: none is {select}"
            raise ConflictError(message, path="select")
        known = await self._steps.get(step.step_id for step in old.steps)
        positions = {step.name: step.position for step in compiled.steps}
        chosen: dict[int, list[tuple[int, int]]] = {}
        for step in old.steps:
            position = positions.get(step.name)
            if position is None or step.position not in ranges:
                continue
            chosen[position] = _in_document(known[step.step_id].step, compiled.steps[position], ranges[step.position])
        return {position: found for position, found in chosen.items() if found}

    # --------------------------------------------------------------------------------------------------- life cycle

    async def start(self, actor: str, experiment: str) -> ExperimentView:
        """DRAFT -> RUNNING."""
        await self._store.start(experiment)
        return await self._changed(actor, "start", experiment)

    async def pause(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        """RUNNING -> PAUSED."""
        await self._store.pause(experiment, reason or f"paused by {actor}")
        # Workers give back what they claimed ahead.
        await self._notify_canceled([worker.id for worker in await self._queries.workers()])
        return await self._changed(actor, "pause", experiment)

    async def resume(
        self, actor: str, experiment: str, budget: float | None = None, deadline: str | None = None
    ) -> ExperimentView:
        """PAUSED -> RUNNING. InvalidRequestError if the deadline is none."""
        await self._store.resume(experiment, budget, deadline_of(deadline, self._clock.time()))
        return await self._changed(actor, "resume", experiment)

    async def retry(self, actor: str, experiment: str) -> ExperimentView:
        """ConflictError if nothing failed."""
        if not await self._store.retry(experiment):
            message = f"experiment {experiment} has no failed, skipped or canceled tasks"
            raise ConflictError(message, remedy=f"to run it all again: `airavata experiment resubmit {experiment}`")
        return await self._changed(actor, "retry", experiment)

    async def cancel(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        """Answers when the processes are gone, or after some seconds if a worker does not answer."""
        _, workers = await self._store.cancel(experiment, reason or f"canceled by {actor}")
        if workers:
            await self._notify_canceled(workers)
        await self._store.audit(actor, "experiment.cancel", experiment, {})  # while the workers end what they have
        if workers:
            await self._until_let_go(experiment)
        # Not before: whoever plans now does not listen to what the workers report.
        self._wake()
        return await self._queries.experiment(experiment)

    async def _until_let_go(self, experiment: str) -> None:
        pause_s, until = _CANCEL_FIRST_PAUSE_S, self._clock.monotonic() + _CANCEL_WAIT_S
        await self._clock.sleep(_CANCEL_SOONEST_S)
        while await self._store.holding(experiment) and self._clock.monotonic() < until:
            await self._clock.sleep(pause_s)
            pause_s = min(1.1 * pause_s, _CANCEL_LONGEST_PAUSE_S)

    async def delete(self, actor: str, experiment: str) -> None:
        """The records first: files that nothing names do no harm, names without files would.

        It is done then; a mover that does not answer finds the files when it looks for what deletions left behind.
        """
        await self._store.delete(experiment)
        await self._store.audit(actor, "experiment.delete", experiment, {})
        with suppress(UnavailableError):
            await self._mover.remove_experiment(experiment)

    async def _changed(self, actor: str, action: str, experiment: str) -> ExperimentView:
        await self._store.audit(actor, f"experiment.{action}", experiment, {})
        self._wake()
        return await self._queries.experiment(experiment)

    def _wake(self) -> None:
        self._wake_scheduler()
        self._advance.set()

    async def heed(self, alarms: Sequence[Alarm]) -> None:
        """An alarm about what ended, or was paused, meanwhile is none any more."""
        for alarm in alarms:
            try:
                if alarm.kind in {BUDGET_EXHAUSTED, DEADLINE_OUT_OF_REACH}:
                    await self._store.pause(alarm.experiment, alarm.reason, kind=alarm.kind, data=alarm.data)
                else:
                    await self._store.warn(alarm.experiment, alarm.kind, alarm.reason, alarm.data)
            except (ConflictError, NotFoundError):
                continue
        self._wake()

    async def explain(self, experiment: str, step: str | None = None, index: int | None = None) -> Explanation:
        """Why it waits, or how it ended."""
        return await self._explainer.explain(experiment, step, index)


def _new_id() -> str:
    """Short enough to type, and not guessable."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "e-" + "".join(secrets.choice(alphabet) for _ in range(10))


def _digest(project: str, source: Mapping[str, Any], derived_from: str | None, request: Submission | Derivation) -> str:
    """SHA-256 of everything that makes a request what it is; the document has parameters and changes in it."""
    select = request.select if isinstance(request, Derivation) else None
    asked = [project, source, derived_from, select, request.start]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def deadline_of(deadline: str | None, now: float) -> float | None:
    """The moment that a caller means, in seconds since the epoch. Raises InvalidRequestError."""
    try:
        return None if deadline is None else parse_deadline(deadline, now)
    except ValueError as error:
        message = f"the deadline {deadline!r} {error}"
        raise InvalidRequestError(message, path="deadline", remedy=DEADLINE_FORMS) from None


def _read(submission: Submission, now: float) -> tuple[dict[str, Any], CompiledExperiment]:
    document: ExperimentDocument = parse_document(
        submission.document, overrides=dict(submission.parameters or {}), now=now
    )
    source = dict(load(submission.document))
    return _with_overrides(source, submission.parameters or {}), compile_document(document)


def _with_overrides(source: dict[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """The stored document has the overrides in it, so that a derived experiment starts from what really ran."""
    if not parameters:
        return source
    declared = dict(source.get("parameters") or {})
    for name, value in parameters.items():
        old = declared.get(name)
        declared[name] = {**old, "default": value} if isinstance(old, dict) else value
    return {**source, "parameters": declared}


def _summary(compiled: CompiledExperiment, step: CompiledStep) -> dict[str, Any]:
    upstream = sorted({*step.foreach, *step.gather, *step.after})
    return {
        "name": step.name,
        "n": step.n,
        "needs": [compiled.steps[position].name for position in upstream],
        "request": step.program.request.to_json(),
        "first": step.parameters(0),
    }


def _in_document(old: CompiledStep, whole: CompiledStep, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Indexes of a step that may itself be a selection, in the numbering of the whole document."""
    if old.foreach or old.n == whole.n:
        return [(first, min(last, whole.n - 1)) for first, last in ranges if first < whole.n]
    indexes = [old.sweep.original(i) for first, last in ranges for i in range(first, last + 1)]
    return merge((i, i) for i in indexes if i < whole.n)
