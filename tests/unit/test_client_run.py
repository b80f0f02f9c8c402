"""Following an experiment, fetching what it made, and building one: without a network."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from airavata_scheduler.client import (
    ApiError,
    Client,
    Experiment,
    InvalidDocumentError,
    NotFoundError,
    UnavailableError,
)
from airavata_scheduler.client.archive import unpack
from airavata_scheduler.client.events import EventStream
from airavata_scheduler.client.progress import LineView, duration, render, summary_line
from airavata_scheduler.client.run import RunFailedError
from airavata_scheduler.client.submission import submission_body
from airavata_scheduler.client.watch import follow


def state(status: str, done: int, n: int = 4, **more: Any) -> dict[str, Any]:
    tasks = {"total": n, "succeeded": done, "running": n - done, "failed": 0, "skipped": 0, "canceled": 0}
    steps = [{"name": "work", "n": n, "needs": [], "tasks": tasks}]
    return {
        "id": "exp-1",
        "name": "x<y",
        "status": status,
        "tasks": tasks,
        "wall_s": 2.0 + done,
        "steps": steps,
        **more,
    }


def client_of(answer: Any, tmp_path: Path, patience_s: float = 1.0) -> Client:
    client = Client(
        "http://platform.test", tmp_path, token="t", transport=httpx.MockTransport(answer), patience_s=patience_s
    )
    client.transport._sleep = lambda _s: None
    client.transport._clock = iter(x / 2 for x in range(10_000)).__next__
    return client


class NoEvents:
    """A stream that never connects."""

    connected = False

    def __init__(self, events: list[list[dict[str, Any]]] | None = None) -> None:
        self.events = events or []
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> list[dict[str, Any]]:
        self.waits.append(timeout_s)
        return self.events.pop(0) if self.events else []

    def close(self) -> None:
        self.connected = False


def watched(answers: list[Any], tmp_path: Path, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, httpx.Response):
            return found
        etag = f'"{found["status"]}{found["tasks"]["succeeded"]}"'
        if request.headers.get("If-None-Match") == etag:
            return httpx.Response(304, headers={"ETag": etag})
        return httpx.Response(200, json=found, headers={"ETag": etag})

    notices: list[str] = []
    client = client_of(answer, tmp_path)
    stream: Any = NoEvents()
    options.setdefault("sleep", lambda _s: None)
    seen = list(follow(client.transport, "exp-1", events=stream, notice=notices.append, **options))
    return seen, notices


def test_only_changes_are_handed_out_and_the_end_is_the_last(tmp_path: Path) -> None:
    answers = [state("RUNNING", 1), state("RUNNING", 1), state("RUNNING", 2), state("SUCCEEDED", 4)]
    seen, notices = watched(answers, tmp_path)
    assert [s["tasks"]["succeeded"] for s in seen] == [1, 2, 4]
    assert notices == []


def test_a_restart_of_the_platform_is_waited_out_and_said_once(tmp_path: Path) -> None:
    troubles: list[Any] = [httpx.ConnectError("refused")] * 40 + [httpx.Response(404, text="no route")] * 5
    seen, notices = watched([state("RUNNING", 1), *troubles, state("SUCCEEDED", 4)], tmp_path)
    assert seen[-1]["status"] == "SUCCEEDED"
    assert notices == ["connection lost, retrying", "connected again"]


def test_a_platform_that_never_comes_back_is_given_up(tmp_path: Path) -> None:
    times = iter(range(0, 100_000, 100))
    with pytest.raises(ApiError):
        watched([httpx.ConnectError("refused")] * 1000, tmp_path, patience_s=900.0, clock=lambda: float(next(times)))


class BusyStream(NoEvents):
    """Progress ten times a second, on a clock of its own."""

    connected = True
    now = 0.0

    def wait(self, timeout_s: float) -> list[dict[str, Any]]:
        self.now += min(timeout_s, 0.1)
        return [{"kind": "experiment.progress" if self.now < 2.0 else "experiment.succeeded"}]


def test_of_much_progress_only_some_is_looked_at_and_the_end_at_once(tmp_path: Path) -> None:
    looks: list[float] = []
    stream = BusyStream()

    def answer(_: httpx.Request) -> httpx.Response:
        looks.append(stream.now)
        return httpx.Response(200, json=state("SUCCEEDED" if stream.now >= 2.0 else "RUNNING", 1))

    events: Any = stream
    list(follow(client_of(answer, tmp_path).transport, "exp-1", events=events, clock=lambda: stream.now))
    assert looks == pytest.approx([0.0, 0.6, 1.2, 1.8, 2.0])


def test_an_experiment_that_is_gone_ends_the_watching(tmp_path: Path) -> None:
    gone = httpx.Response(404, json={"code": "not_found", "message": "there is no experiment"})
    with pytest.raises(NotFoundError):
        watched([state("RUNNING", 1), gone], tmp_path)


class Socket:
    """A WebSocket that says some things and then breaks."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    def recv(self, timeout: float) -> str:
        if not self.messages:
            raise TimeoutError
        found = self.messages.pop(0)
        if isinstance(found, Exception):
            raise found
        return json.dumps(found)

    def close(self) -> None:
        self.messages = []


def test_the_event_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    event = {"type": "event", "kind": "experiment.progress"}
    sockets = [
        Socket([{"type": "hello", "seq": 3}, {**event, "seq": 4}, OSError("cut")]),
        Socket([{**event, "seq": 5}]),
    ]
    addresses: list[str] = []
    now = [0.0]

    def connect(address: str, **options: Any) -> Any:
        addresses.append(address)
        assert options["additional_headers"] == {"Authorization": "Bearer t"}
        return sockets[len(addresses) - 1]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    transport = client_of(lambda _r: httpx.Response(500), tmp_path).transport
    stream = EventStream(transport, "exp-1", connect=connect, sleep=sleep, clock=lambda: now[0])
    assert [e["seq"] for e in stream.wait(1.0)] == [4]
    assert not stream.connected
    assert stream.wait(1.0) == []
    assert [e["seq"] for e in stream.wait(1.0)] == [5]
    assert [a.partition("after=")[2] for a in addresses] == ["0", "4"]
    assert addresses[0].startswith("ws://platform.test/api/v1/stream?experiment=exp-1")


def test_a_stream_that_cannot_be_opened_only_costs_time(tmp_path: Path) -> None:
    def connect(*_: Any, **__: Any) -> Any:
        raise OSError("refused")

    slept: list[float] = []
    transport = client_of(lambda _r: httpx.Response(500), tmp_path).transport
    stream = EventStream(transport, "e", connect=connect, sleep=slept.append, clock=lambda: 0.0)
    assert stream.wait(0.5) == []
    assert slept == [0.5]


def archive(members: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return buffer.getvalue()


def pieces(content: bytes, size: int = 700) -> Iterator[bytes]:
    return iter([content[i : i + size] for i in range(0, len(content), size)])


def test_unpacking_writes_below_the_directory_only(tmp_path: Path) -> None:
    done = unpack(pieces(archive({"work/0/out.txt": b"1\n", "work/1/out.txt": b"2\n" * 5000})), tmp_path / "new")
    assert (done.files, done.size_bytes) == (2, 10_002)
    assert (tmp_path / "new/work/1/out.txt").read_bytes() == b"2\n" * 5000
    escapes = [archive({name: b"x"}) for name in ("../escape", f"{tmp_path}/escape", "a/../../escape")]
    for evil in (*escapes, archive({}, link=("work/l", "/etc/passwd"))):
        with pytest.raises(ApiError, match="not safe"):
            unpack(pieces(evil), tmp_path / "evil")
    assert not (tmp_path / "escape").exists()


def test_an_archive_that_ends_early_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        unpack(pieces(archive({"a": b"x" * 5000})[:3000]), tmp_path)


def test_a_followed_log_goes_on_at_its_offset(tmp_path: Path) -> None:
    text, offsets = b"one\ntwo\nthree\n", []

    class Cut(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield text[:6]
            raise httpx.ReadError("reset")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/logs"):
            offset = int(request.url.params["offset"])
            offsets.append(offset)
            return httpx.Response(200, stream=Cut()) if offset == 0 else httpx.Response(200, content=text[offset:])
        return httpx.Response(200, json=state("RUNNING", 0))

    run = client_of(answer, tmp_path).run("exp-1")
    assert b"".join(run.log_chunks("work", 0, follow=True)) == text
    assert offsets == [0, 6]


def test_a_log_goes_on_with_the_attempt_it_began_with(tmp_path: Path) -> None:
    asked: list[str | None] = []

    class Cut(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"first"
            raise httpx.ReadError("reset")

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/logs"):
            return httpx.Response(200, json=state("RUNNING", 0))
        asked.append(request.url.params.get("attempt"))
        if len(asked) == 1:
            return httpx.Response(200, stream=Cut(), headers={"X-Attempt": "1"})
        return httpx.Response(200, content=b" attempt" if asked[-1] == "1" else b"another attempt")

    run = client_of(answer, tmp_path).run("exp-1")
    assert run.logs("work") == "first attempt"
    assert asked == [None, "1"]


def test_waiting_ends_in_time_although_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStream, "_open", EventStream._lost)

    def answer(request: httpx.Request) -> httpx.Response:
        known = request.headers.get("If-None-Match")
        return httpx.Response(304) if known else httpx.Response(200, json=state("PAUSED", 1), headers={"ETag": '"1"'})

    run = client_of(answer, tmp_path).run("exp-1")
    with pytest.raises(TimeoutError, match="has not ended"):
        run.wait(timeout_s=0.2)


@pytest.mark.parametrize("trouble", [httpx.Response(304), httpx.ConnectError("refused")])
def test_following_ends_in_time(tmp_path: Path, trouble: Any) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    class Waiting(NoEvents):
        def wait(self, timeout_s: float) -> list[dict[str, Any]]:
            now[0] += timeout_s
            return []

    def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(trouble, Exception):
            raise trouble
        return trouble

    events: Any = Waiting()
    transport = client_of(answer, tmp_path).transport
    assert not list(follow(transport, "exp-1", events=events, sleep=sleep, clock=lambda: now[0], timeout_s=7.5))
    assert now[0] == pytest.approx(7.5)


def test_results_as_table_and_as_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"X": [1, 2]}), buffer)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/results"):
            return httpx.Response(200, content=buffer.getvalue())
        return httpx.Response(200, json=state("SUCCEEDED", 4))

    run = client_of(answer, tmp_path).run("exp-1")
    assert run.results().column("X").to_pylist() == [1, 2]
    assert run.save_results(tmp_path / "deep" / "r.parquet").read_bytes() == buffer.getvalue()
    with pytest.raises(ValueError, match="ending"):
        run.save_results(tmp_path / "r.xlsx")


def test_waiting_with_check_raises_unless_it_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStream, "_open", EventStream._lost)
    run = client_of(lambda _r: httpx.Response(200, json=state("PARTIAL", 3)), tmp_path).run("exp-1")
    assert run.wait().state["status"] == "PARTIAL"
    with pytest.raises(RunFailedError, match="PARTIAL"):
        run.wait(check=True)


def test_ids_may_be_abbreviated(tmp_path: Path) -> None:
    rows = [{"id": "abc1"}, {"id": "abd2"}]

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if name == "experiments":
            return httpx.Response(200, json={"items": rows[: int(request.url.params["limit"])], "next": None})
        if name in {"abc1", "abd2"}:
            return httpx.Response(200, json=state("RUNNING", 1, id=name) | {"id": name})
        return httpx.Response(404, json={"code": "not_found", "message": "no"})

    client = client_of(answer, tmp_path)
    assert client.run("abd").id == "abd2"
    assert client.run("last").id == "abc1"
    with pytest.raises(ApiError, match="2 experiments begin"):
        client.run("ab")
    with pytest.raises(NotFoundError):
        client.run("zzz")


def cube(x: float) -> dict[str, float]:
    return {"cube": x**3}


def test_a_sweep_is_the_document_that_one_would_write() -> None:
    made = Experiment.sweep(
        "s", command=["./f"], inputs={"I": range(1, 101), "J": range(0, 10, 3), "X": np.linspace(0, 1, 3), "S": "text"}
    ).step("sum", script="cat", gather="run", inputs={"ALL": "${run.OUT}"})
    body = submission_body(made)
    assert body["document"] == {
        "name": "s",
        "scripts": {"sum": "cat"},
        "tasks": {
            "run": {
                "command": ["./f"],
                "task_inputs": {"I": "1..100", "J": "0..9..3", "X": [0.0, 0.5, 1.0], "S": "text"},
            },
            "sum": {"script": "sum", "gather": ["run"], "task_inputs": {"ALL": "${run.OUT}"}},
        },
    }
    json.dumps(body)


def test_a_python_function_becomes_a_module_and_a_place_to_import_it_from() -> None:
    task = Experiment.sweep(python=cube, inputs={"x": [1, 2]}).document()["tasks"]["run"]
    assert task["python"].endswith(":cube")
    assert task["python_path"]
    assert Experiment.sweep(python=math.__name__ + ":sqrt").document()["tasks"]["run"] == {"python": "math:sqrt"}
    assert Experiment.sweep(python=json.dumps).document()["tasks"]["run"] == {"python": "json:dumps"}
    with pytest.raises(ValueError, match="no name"):
        Experiment.sweep(python=lambda: 1)
    with pytest.raises(ValueError, match="exactly one"):
        Experiment.sweep(python=cube, command=["x"])


def test_text_goes_to_the_platform_as_it_is_unless_a_file_is_needed(tmp_path: Path) -> None:
    for text in ("tasks: {a: {command: [x]}}  # kept", "{", "", "a: [b: c", "tasks: 5"):
        assert submission_body(text)["document"] == text
    (tmp_path / "p.csv").write_text("A,B\n1,x\n2,y\n")
    document = tmp_path / "d.yml"
    document.write_text("tasks: {a: {command: [x], rows: p.csv}}\ndeadline: 2031-01-01T00:00:00Z\n")
    found = submission_body(document)["document"]
    assert found["tasks"]["a"]["rows"] == [{"A": 1, "B": "x"}, {"A": 2, "B": "y"}]
    assert found["deadline"] == "2031-01-01T00:00:00Z"
    document.write_text("tasks: {a: {command: [x], rows: none.csv}}\n")
    with pytest.raises(InvalidDocumentError, match=r"none\.csv"):
        submission_body(document)


def test_progress_in_lines_and_as_a_picture() -> None:
    times, out = iter([0.0, 0.5, 3.0, 3.1]), io.StringIO()
    view = LineView(out, clock=lambda: next(times))
    for found in (state("RUNNING", 1), state("RUNNING", 2), state("RUNNING", 3), state("SUCCEEDED", 4)):
        view.show(found)
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1", "3", "4"]
    assert "\x1b" not in out.getvalue()
    console = Console(file=io.StringIO(), width=120)
    console.print(render(state("RUNNING", 1), "connection lost, retrying"))
    assert isinstance(console.file, io.StringIO)
    assert "connection lost" in console.file.getvalue()
    assert "work" in console.file.getvalue()
    assert summary_line(state("PARTIAL", 2, reason="r")).endswith("- r")
    assert [duration(x) for x in (1.25, 245, 7380)] == ["1.2 s", "4 min 05 s", "2 h 03 min"]


def test_a_notebook_gets_safe_html(tmp_path: Path) -> None:
    run = client_of(lambda _r: httpx.Response(200, json=state("RUNNING", 1)), tmp_path).run("exp-1")
    assert "x&lt;y" in run._repr_html_()
    assert "<pre>" in Experiment.sweep(command=["a"])._repr_html_()
