"""One submitted experiment: its state, its end, what it produced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote
from uuid import uuid4

from airavata_scheduler.client.archive import Unpacked, unpack
from airavata_scheduler.client.errors import ApiError, UnavailableError, UnreachableError
from airavata_scheduler.client.notebook import run_as_html
from airavata_scheduler.client.paging import pages
from airavata_scheduler.client.progress import progress_view
from airavata_scheduler.client.transport import Transport
from airavata_scheduler.client.watch import FINISHED, follow

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_QUIET_LIMIT_S = 3600.0  #: a followed log may be silent for so long
_RETRIES = 5
FORMATS = ("parquet", "csv", "json")


class RunFailedError(ApiError):
    """The experiment has ended in another way than SUCCEEDED."""

    default_code = "run_failed"


class Run:
    """A submitted experiment. What it knows is from the last time it asked; `refresh` asks."""

    def __init__(self, transport: Transport, state: Mapping[str, Any]) -> None:
        self._transport = transport
        self.state: dict[str, Any] = dict(state)  #: the experiment as the API shows it

    @property
    def id(self) -> str:
        """The id of the experiment."""
        return str(self.state["id"])

    @property
    def _path(self) -> str:
        return f"/experiments/{quote(self.id, safe='')}"

    def refresh(self) -> dict[str, Any]:
        """Ask for the state: status, counts of tasks in total and for each step, times, cost."""
        self.state = self._transport.json("GET", self._path)
        return self.state

    def status(self) -> str:
        """DRAFT, RUNNING, PAUSED, SUCCEEDED, PARTIAL (some tasks failed for good), FAILED or CANCELED, as of now."""
        return str(self.refresh()["status"])

    def follow(
        self, notice: Callable[[str], None] = lambda _text: None, *, timeout_s: float = inf
    ) -> Iterator[dict[str, Any]]:
        """The state whenever it has changed, until the end, or for so long. A restart of the platform is waited out."""
        for state in follow(self._transport, self.id, notice=notice, timeout_s=timeout_s):
            self.state = state
            yield state

    def wait(self, *, progress: bool = False, timeout_s: float | None = None, check: bool = False) -> Self:
        """Wait for the end. `progress` shows bars, or lines where there is no terminal.

        Raises `TimeoutError` after `timeout_s` (the experiment goes on), and with `check` a `RunFailedError` unless it
        succeeded.
        """
        with progress_view(enabled=progress) as view:
            for state in self.follow(notice=view.notice, timeout_s=inf if timeout_s is None else timeout_s):
                view.show(state)
        if self.state["status"] not in FINISHED:
            raise TimeoutError(f"experiment {self.id} has not ended after {timeout_s} s; it goes on")
        if check and self.state["status"] != "SUCCEEDED":
            raise RunFailedError(
                f"experiment {self.id} ended as {self.state['status']}: {self.state.get('reason') or 'tasks failed'}",
                remedy=f"see `airavata experiment explain {self.id}`",
            )
        return self

    def results(self) -> pa.Table:
        """Parameters, declared results, timings, usage and cost: one row a task. Needs pyarrow."""
        import pyarrow as pa  # noqa: PLC0415  (loaded when it is needed)
        from pyarrow import parquet  # noqa: PLC0415  (loaded when it is needed)

        return parquet.read_table(pa.BufferReader(self.results_as("parquet")))

    def to_pandas(self) -> pd.DataFrame:
        """The results as a DataFrame. Needs pandas."""
        frame: pd.DataFrame = self.results().to_pandas()
        return frame

    def results_as(self, kind: str) -> bytes:
        """The results as a `parquet`, `csv` or `json` file."""
        return self._transport.request("GET", f"{self._path}/results", params={"format": kind}).content

    def save_results(self, path: Path | str, kind: str | None = None) -> Path:
        """Write the results; the format is that of the file's ending unless given. Replaces the file in one step."""
        target = Path(path)
        chosen = kind or target.suffix.removeprefix(".").lower()
        if chosen not in FORMATS:
            raise ValueError(
                f"{target.name}: the ending says no format; use {', '.join('.' + name for name in FORMATS)}"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(self.results_as(chosen))
        return temporary.replace(target)

    def tasks(
        self, step: str | None = None, state: str | list[str] | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Tasks in order, with their parameters; of one step, and in some states, if given (`failed` or `FAILED`)."""
        states = [state] if isinstance(state, str) else state
        wanted = {"step": step, "state": [name.lower() for name in states] if states else None}
        return pages(self._transport, f"{self._path}/tasks", limit, wanted)

    def task(self, step: str, index: int) -> dict[str, Any]:
        """One task with all of its attempts."""
        answer: dict[str, Any] = self._transport.json("GET", self._task_path(step, index))
        return answer

    def logs(self, step: str, index: int = 0, *, stream: str = "stdout", attempt: int | None = None) -> str:
        """What a task wrote so far to `stdout` or `stderr`; of its latest attempt unless another is named."""
        pieces = self.log_chunks(step, index, stream=stream, attempt=attempt)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def log_chunks(
        self, step: str, index: int, *, stream: str = "stdout", attempt: int | None = None, follow: bool = False
    ) -> Iterator[bytes]:
        """The same as bytes, piece by piece; with `follow` until the task has ended.

        Goes on where it was after a broken connection, with the same attempt.
        """
        offset, failures = 0, 0
        while True:
            params = {"stream": stream, "attempt": attempt, "offset": offset, "follow": "true" if follow else None}
            try:
                with self._transport.stream(
                    f"{self._task_path(step, index)}/logs", params, timeout_s=_QUIET_LIMIT_S if follow else None
                ) as response:
                    attempt = attempt or int(response.headers.get("X-Attempt", 0)) or None
                    for chunk in response.iter_bytes():
                        offset, failures = offset + len(chunk), 0
                        yield chunk
            except (UnavailableError, UnreachableError):
                failures += 1
                if failures > _RETRIES:
                    raise
            else:
                return

    def outputs(self, step: str | None = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Published outputs: step, index, name, size_bytes, sha256."""
        return pages(self._transport, f"{self._path}/outputs", limit, {"step": step})

    def output(self, step: str, index: int, name: str) -> bytes:
        """The content of one output; a directory comes as a tar archive."""
        path = f"{self._path}/outputs/{quote(step, safe='')}/{index}/{quote(name, safe='')}"
        return self._transport.request("GET", path).content

    def download(
        self,
        directory: Path | str,
        *,
        step: str | None = None,
        progress: Callable[[int, int], None] = lambda _files, _bytes: None,
    ) -> Unpacked:
        """Write all published outputs to `directory/<step>/<index>/...`.

        Begins again when the connection breaks.
        """
        failures = 0
        while True:
            try:
                with self._transport.stream(f"{self._path}/archive", {"step": step}) as response:
                    return unpack(response.iter_bytes(1 << 16), Path(directory), progress)
            except UnavailableError:
                failures += 1
                if failures > _RETRIES:
                    raise

    def explain(self, step: str | None = None, index: int | None = None) -> dict[str, Any]:
        """Why it, a step or a task waits, or how it ended: `summary`, `reasons`, `resources`, `remedy`."""
        answer: dict[str, Any] = self._transport.json(
            "GET", f"{self._path}/explain", params={"step": step, "index": index}
        )
        return answer

    def document(self) -> Any:
        """The document as it was submitted."""
        return self._transport.json("GET", f"{self._path}/document")

    def start(self) -> Self:
        """Start a draft."""
        return self._command("start")

    def cancel(self, reason: str = "") -> Self:
        """End it: what has not finished becomes CANCELED, running processes are ended."""
        return self._command("cancel", reason=reason)

    def pause(self, reason: str = "") -> Self:
        """Start no further task; running ones go on."""
        return self._command("pause", reason=reason)

    def resume(self, budget: float | None = None, deadline: str | None = None) -> Self:
        """Go on after a pause, with another budget or deadline (a date or a duration from now) if one is given."""
        limits = {"budget": budget, "deadline": deadline}
        return self._command("resume", **{name: value for name, value in limits.items() if value is not None})

    def retry(self) -> Self:
        """Try again what failed, and what was skipped because of it."""
        return self._command("retry")

    def resubmit(self, parameters: Mapping[str, str] | None = None) -> Run:
        """A new experiment with the same document, and other parameters if given."""
        return self._new("resubmit", {"parameters": dict(parameters or {})})

    def derive(
        self,
        select: str = "all",
        *,
        parameters: Mapping[str, str] | None = None,
        changes: Mapping[str, Any] | None = None,
        name: str | None = None,
        start: bool = True,
    ) -> Run:
        """A new experiment from `all`, only the `failed`, or only the `succeeded` tasks of this one.

        `changes` are merged into the document (JSON merge patch).
        """
        body: dict[str, Any] = {"select": select, "parameters": dict(parameters or {}), "changes": dict(changes or {})}
        return self._new("derive", {**body, "name": name, "start": start})

    def delete(self) -> None:
        """Remove a finished experiment and its outputs."""
        self._transport.json("DELETE", self._path)

    def _command(self, verb: str, **body: Any) -> Self:
        self.state = self._transport.json("POST", f"{self._path}/{verb}", json=body or None, repeatable=True)
        return self

    def _new(self, verb: str, body: Mapping[str, Any]) -> Run:
        headers = {"Idempotency-Key": str(uuid4())}
        state = self._transport.json("POST", f"{self._path}/{verb}", json=body, headers=headers, repeatable=True)
        return Run(self._transport, state)

    def _task_path(self, step: str, index: int) -> str:
        return f"{self._path}/tasks/{quote(step, safe='')}/{index}"

    def __repr__(self) -> str:
        counts = self.state.get("tasks", {})
        done = f"{counts.get('succeeded', 0)}/{counts.get('total', 0)}"
        return f"Run({self.id!r}, name={self.state.get('name')!r}, status={self.state['status']!r}, succeeded={done})"

    def _repr_html_(self) -> str:
        return run_as_html(self.state)
