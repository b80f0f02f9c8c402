"""The API as it is served: real HTTP and WebSockets, a real PostgreSQL and storage; only the actors are stand-ins."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from airavata_scheduler.adapters.authorization.embedded import EmbeddedAuthorization
from airavata_scheduler.adapters.event_bus.postgres import PostgresEventBus
from airavata_scheduler.adapters.memory.rate_limit import MemoryRateLimit
from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.experiment_store import PostgresExperimentStore
from airavata_scheduler.adapters.persistence.identity import SqlIdentityStore
from airavata_scheduler.adapters.persistence.queries import SqlQueries
from airavata_scheduler.adapters.persistence.task_store import PostgresTaskStore
from airavata_scheduler.adapters.storage.posix import PosixStorage
from airavata_scheduler.api.app import build_app
from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.api.streams import NOT_ALLOWED, NOT_AUTHENTICATED, build_streams_app
from airavata_scheduler.platform.domain.compile import compile_document
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.messages import Extent
from airavata_scheduler.platform.domain.views import ExperimentView, Explanation
from airavata_scheduler.platform.interfaces import Derivation, Submission, Validation
from airavata_scheduler.platform.ports.repository import NewExperiment
from airavata_scheduler.platform.services.identity import Identity, IdentitySettings, ensure_admin
from airavata_scheduler.platform.services.orchestrator import deadline_of
from airavata_scheduler.platform.services.preview import Previewer

PASSWORD = "correct horse battery"
KEY = "k" * 40
DOCUMENT = {"name": "square", "tasks": {"square": {"command": ["true"], "task_inputs": {"X": "1..20"}}}}
NOW = 1_800_000_000.0


class StandIns:
    """Orchestrator, scheduler, workers and resources, as far as the API calls them, over the real stores."""

    def __init__(self, queries: SqlQueries, store: PostgresExperimentStore) -> None:
        self._queries = queries
        self._store = store

    async def validate(self, submission: Submission) -> Validation:
        found = compile_document(parse_document(submission.document, overrides=submission.parameters, now=NOW))
        return Validation(found.name, found.n_tasks, tuple({"name": s.name, "n": s.n} for s in found.steps))

    async def preview(self, submission: Submission, *, frontier: bool = False) -> Mapping[str, Any]:
        compiled = compile_document(parse_document(submission.document, overrides=submission.parameters, now=NOW))
        previewer = Previewer(PostgresTaskStore(self._store._engine), InProcessSolver())
        found = await previewer.preview(compiled, submission.project, frontier=frontier)
        return {**found, "warnings": []}

    async def submit(self, actor: str, submission: Submission) -> ExperimentView:
        document = parse_document(submission.document, overrides=submission.parameters, now=NOW)
        new = NewExperiment(
            uuid.uuid4().hex[:12], actor, submission.project, compile_document(document), {"name": document.name},
            submission.start, submission.idempotency_key,
        )  # fmt: skip
        return await self._queries.experiment((await self._store.insert(new))[0])

    async def start(self, actor: str, experiment: str) -> ExperimentView:
        await self._store.start(experiment)
        return await self._queries.experiment(experiment)

    async def cancel(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        await self._store.cancel(experiment, reason)
        return await self._queries.experiment(experiment)

    async def pause(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        await self._store.pause(experiment, reason)
        return await self._queries.experiment(experiment)

    async def resume(
        self, actor: str, experiment: str, budget: float | None = None, deadline: str | None = None
    ) -> ExperimentView:
        await self._store.resume(experiment, budget, deadline_of(deadline, NOW))
        return await self._queries.experiment(experiment)

    async def retry(self, actor: str, experiment: str) -> ExperimentView:
        await self._store.retry(experiment)
        return await self._queries.experiment(experiment)

    async def derive(self, actor: str, experiment: str, derivation: Derivation) -> ExperimentView:
        return await self._queries.experiment(experiment)

    async def delete(self, actor: str, experiment: str) -> None:
        await self._store.delete(experiment)

    async def explain(self, experiment: str, step: str | None = None, index: int | None = None) -> Explanation:
        return Explanation(experiment, "RUNNING", "It waits for a worker.", ("there is none",))

    async def current_plan(self) -> Mapping[str, Any]:
        return {"shares": [], "epoch": 1}

    async def drain(self, actor: str, worker_id: int) -> Any:
        raise NotFoundError(f"there is no worker {worker_id}", path="worker")

    async def workers(self) -> Sequence[Any]:
        return []

    async def resources(self) -> Sequence[Any]:
        return []

    async def update(self, actor: str, name: str, changes: Mapping[str, Any]) -> Any:
        raise NotFoundError(f"there is no resource {name!r}", path="name")


class Api:
    """Two servers in a thread with one event loop, and what a test needs to look behind them."""

    def __init__(self, url: str, conninfo: str, storage: PosixStorage) -> None:
        self.conninfo, self.storage = conninfo, storage
        self._ready, self._stop = threading.Event(), threading.Event()
        self._url = url
        self.base, self.streams = "", ""
        self.live: dict[int, tuple[Extent, Extent]] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(60)

    async def _serve(self) -> None:
        engine = create_engine(self._url)
        clock = WallClock()
        queries, limits = SqlQueries(engine), MemoryRateLimit(clock)
        store = SqlIdentityStore(engine)
        await ensure_admin(store, "admin", PASSWORD, NOW, cost=4)
        actors: Any = StandIns(queries, PostgresExperimentStore(engine))

        async def live_logs(worker: int, step: int, index: int, attempt: int) -> tuple[Extent, Extent] | None:
            return self.live.get(index)

        services = ApiServices(
            queries=queries, identity=Identity(store, limits, clock, IdentitySettings(KEY, cost=4)),
            authorization=EmbeddedAuthorization(engine), rate_limit=limits, event_bus=PostgresEventBus(self.conninfo),
            storage=lambda _: self.storage, orchestrator=actors, scheduler=actors, workers=actors, resources=actors,
            vault=actors, mover=actors, version="1.2.3", clock=clock, live_logs=live_logs,
        )  # fmt: skip
        servers = [self._server(app) for app in (build_app(services), build_streams_app(services))]
        running = [asyncio.create_task(server.serve()) for server in servers]
        while not all(server.started for server in servers):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        ports = [server.servers[0].sockets[0].getsockname()[1] for server in servers]
        self.base, self.streams = f"http://127.0.0.1:{ports[0]}", f"ws://127.0.0.1:{ports[1]}"
        self._ready.set()
        await asyncio.to_thread(self._stop.wait)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*running)
        await engine.dispose()

    @staticmethod
    def _server(app: FastAPI) -> uvicorn.Server:
        return uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="websockets-sansio", lifespan="off"))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def client(self, name: str = "admin") -> httpx.Client:
        login = httpx.post(f"{self.base}/api/v1/auth/login", json={"username": name, "password": PASSWORD})
        headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
        return httpx.Client(base_url=f"{self.base}/api/v1", headers=headers, timeout=30)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            found = connection.execute(statement.encode(), values)
            return found.fetchall() if found.description else []


class WallClock:
    """The real one."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


@pytest.fixture(scope="module")
def api(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    root: Path = tmp_path_factory.mktemp("storage")
    conninfo = database.replace("postgresql+psycopg", "postgresql")
    made = Api(database, conninfo, PosixStorage(root))
    with made.client() as admin:
        for name in ("ada", "kurt"):
            admin.post("/users", json={"name": name, "password": PASSWORD}).raise_for_status()
    yield made
    made.stop()


@pytest.fixture
def admin(api: Api) -> Iterator[httpx.Client]:
    with api.client() as client:
        yield client


@pytest.fixture
def experiment(admin: httpx.Client) -> str:
    answer = admin.post("/experiments", json={"document": DOCUMENT})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def publish(api: Api, experiment: str, index: int, files: Mapping[str, bytes], name: str, key: str) -> int:
    """A task that succeeded with one output of these files."""
    ((step,),) = api.sql("SELECT id FROM steps WHERE experiment = %s", experiment)
    api.sql("INSERT INTO tasks (step_id, index, state, attempt, worker_id) VALUES (%s, %s, 6, 1, 1)", step, index)
    api.sql("INSERT INTO outputs VALUES (%s, %s, %s, 1, %s, 5, 'aa')", step, index, name, key)
    for file, data in files.items():
        asyncio.run(_write(api.storage, file, data))
    return int(step)


async def _write(storage: PosixStorage, key: str, data: bytes) -> None:
    await storage.write(key, data)


def test_an_experiment_is_submitted_listed_and_looked_at(api: Api, admin: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = admin.post("/experiments", json={"document": DOCUMENT, "parameters": None}, headers=key)
    again = admin.post("/experiments", json={"document": DOCUMENT}, headers=key)
    assert (made.status_code, again.status_code) == (201, 200)
    experiment = made.json()["id"]
    assert again.json()["id"] == experiment
    got = admin.get(f"/experiments/{experiment}")
    assert got.json()["tasks"]["ready"] == 20
    assert got.json()["steps"][0]["name"] == "square"
    tag = {"If-None-Match": got.headers["etag"]}
    assert admin.get(f"/experiments/{experiment}", headers=tag).status_code == 304
    assert admin.post(f"/experiments/{experiment}/pause", json={"reason": "lunch"}).json()["status"] == "PAUSED"
    assert admin.get(f"/experiments/{experiment}", headers=tag).status_code == 200
    tasks = admin.get(f"/experiments/{experiment}/tasks", params={"limit": 3}).json()
    assert [t["parameters"] for t in tasks["items"]] == [{"X": 1}, {"X": 2}, {"X": 3}]
    more = admin.get(f"/experiments/{experiment}/tasks", params={"limit": 3, "cursor": tasks["next"]}).json()
    assert more["items"][0]["index"] == 3
    found = admin.get("/experiments", params={"name": "squ", "status": ["PAUSED"]}).json()["items"]
    assert experiment in [item["id"] for item in found]


def test_every_problem_of_a_document_comes_at_once(admin: httpx.Client) -> None:
    bad = {
        "name": "x",
        "tasks": {"a": {"command": ["true"], "nonsense": 1}, "b": {"depends_on": ["zzz"], "command": ["true"]}},
    }
    answer = admin.post("/experiments", json={"document": bad})
    assert answer.status_code == 422
    error = answer.json()
    assert error["code"] == "invalid_document"
    assert len(error["problems"]) >= 2
    assert error["request_id"] == answer.headers["x-request-id"]


def test_what_one_may_not_see_is_not_there(api: Api, admin: httpx.Client, experiment: str) -> None:
    project = f"p{uuid.uuid4().hex[:8]}"
    admin.post("/projects", json={"name": project}).raise_for_status()
    mine = admin.post("/experiments", json={"document": DOCUMENT, "project": project}).json()["id"]
    with api.client("ada") as ada:
        assert ada.get(f"/experiments/{mine}").status_code == 404
        assert ada.get("/experiments", params={"project": project}).json()["items"] == []
        assert ada.post("/experiments", json={"document": DOCUMENT, "project": project}).status_code == 404
        assert ada.get("/users").status_code == 403
        admin.put(f"/projects/{project}/members/ada", json={"role": "viewer"}).raise_for_status()
        assert ada.get(f"/experiments/{mine}").status_code == 200
        assert ada.post(f"/experiments/{mine}/cancel").status_code == 403
        admin.put(f"/projects/{project}/members/ada", json={"role": "editor"}).raise_for_status()
        assert ada.post(f"/experiments/{mine}/cancel").json()["status"] == "CANCELED"
        assert ada.put(f"/projects/{project}/members/kurt", json={"role": "viewer"}).status_code == 403
    assert admin.delete(f"/projects/{project}").status_code == 409


def _tar(client: httpx.Client, address: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(client.get(address).content))


def test_outputs_come_one_by_one_and_as_an_archive(api: Api, admin: httpx.Client, experiment: str) -> None:
    base = f"{experiment}/square"
    publish(api, experiment, 1, {f"{base}/1/1/out/a.txt": b"hello"}, "FILE", f"{base}/1/1/out/a.txt")
    publish(api, experiment, 0, {f"{base}/0/1/d/x": b"1", f"{base}/0/1/d/y/z": b"22"}, "DIR", f"{base}/0/1/d")
    one = admin.get(f"/experiments/{experiment}/outputs/square/1/FILE")
    assert (one.content, one.headers["content-disposition"]) == (b"hello", 'attachment; filename="a.txt"')
    with _tar(admin, f"/experiments/{experiment}/outputs/square/0/DIR") as directory:
        assert directory.getnames() == ["x", "y/z"]
    with _tar(admin, f"/experiments/{experiment}/archive") as archive:
        assert archive.getnames() == ["square/0/d/x", "square/0/d/y/z", "square/1/out/a.txt"]
        assert archive.extractfile("square/0/d/y/z").read() == b"22"  # type: ignore[union-attr]
    assert admin.get(f"/experiments/{experiment}/archive", params={"step": "no"}).status_code == 404
    assert admin.get(f"/experiments/{experiment}/outputs/square/5/FILE").status_code == 404
    listed = admin.get(f"/experiments/{experiment}/outputs").json()["items"]
    assert [(o["index"], o["name"]) for o in listed] == [(0, "DIR"), (1, "FILE")]


def test_an_archive_without_one_of_the_outputs_breaks_off(api: Api, admin: httpx.Client, experiment: str) -> None:
    publish(api, experiment, 1, {f"{experiment}/square/1/1/a.txt": b"hello"}, "FILE", f"{experiment}/square/1/1/a.txt")
    asyncio.run(api.storage.delete_tree(f"{experiment}/square/1"))
    with pytest.raises(httpx.RemoteProtocolError):
        admin.get(f"/experiments/{experiment}/archive")


def test_logs_are_read_and_followed_to_the_end(api: Api, admin: httpx.Client, experiment: str) -> None:
    ((step,),) = api.sql("SELECT id FROM steps WHERE experiment = %s", experiment)
    asyncio.run(_write(api.storage, "seg", b"....onetwothree-other"))
    api.sql("INSERT INTO tasks (step_id, index, state, attempt, worker_id) VALUES (%s, 2, 4, 1, 1)", step)
    address = f"/experiments/{experiment}/tasks/square/2/logs"
    assert admin.get(address).json()["remedy"] == "use follow=true, or read it when it ended"
    api.live[2] = (Extent("seg", 4, 3), Extent("seg", 0, 0))
    assert admin.get(address).text == "one"
    with admin.stream("GET", address, params={"follow": True}) as answer:
        pieces = answer.iter_text()
        assert next(pieces) == "one"
        api.sql(
            """INSERT INTO attempts (step_id, index, attempt, state, worker_id, stdout)
            VALUES (%s, 2, 1, 6, 1, '["seg", 4, 11, true]')""", step,
        )  # fmt: skip
        api.sql("UPDATE tasks SET state = 6 WHERE step_id = %s AND index = 2", step)
        assert "".join(pieces) == "twothree"
    ended = admin.get(address, params={"offset": 3})
    assert (ended.text, ended.headers["x-log-truncated"]) == ("twothree", "true")
    assert admin.get(address, params={"attempt": 9}).status_code == 404


def test_results_have_three_forms(admin: httpx.Client, experiment: str) -> None:
    rows = admin.get(f"/experiments/{experiment}/results").json()
    assert len(rows["items"]) == 20
    assert rows["items"][4]["X"] == 5
    csv = admin.get(f"/experiments/{experiment}/results", params={"format": "csv"})
    assert csv.text.count("\n") == 21
    parquet = admin.get(f"/experiments/{experiment}/results", params={"format": "parquet"})
    assert (parquet.content[:4], parquet.headers["content-type"]) == (b"PAR1", "application/vnd.apache.parquet")
    assert admin.get(f"/experiments/{experiment}/results", params={"format": "xls"}).status_code == 422


def test_metrics_and_health(api: Api, admin: httpx.Client, experiment: str) -> None:
    assert httpx.get(f"{api.base}/api/v1/health").json() == {"status": "ok", "version": "1.2.3"}
    assert httpx.get(f"{api.base}/metrics").status_code == 401
    text = admin.get("/metrics").text
    assert "airavata_queue_length" in text
    assert 'airavata_api_request_duration_seconds_count{method="GET",path="/api/v1/health",status="200"}' in text
    assert admin.get("/health/detail").json()["parts"][0] == {"name": "database", "healthy": True, "message": ""}


def _event(api: Api, experiment: str | None, project: str | None, kind: str) -> int:
    ((seq,),) = api.sql(
        "INSERT INTO events (kind, experiment, project) VALUES (%s, %s, %s) RETURNING seq", kind, experiment, project
    )
    api.sql("NOTIFY airavata_events")
    return int(seq)


async def _next(socket: ClientConnection, kind: str = "event") -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] == kind:
                return message


async def test_a_stream_replays_and_goes_on(api: Api, admin: httpx.Client, experiment: str) -> None:
    old = [_event(api, experiment, "default", f"old{i}") for i in range(3)]
    _event(api, "another", "default", "no")
    headers = {"Authorization": admin.headers["authorization"]}
    address = f"{api.streams}/api/v1/stream?experiment={experiment}&after={old[0]}"
    async with connect(address, additional_headers=headers) as socket:
        assert (await _next(socket, "hello"))["seq"] == old[0]
        assert [(await _next(socket))["seq"] for _ in range(2)] == old[1:]
        new = _event(api, experiment, "default", "new")
        found = await _next(socket)
        assert (found["seq"], found["kind"], found["experiment"]) == (new, "new", experiment)
        await socket.send('{"type": "ping"}')
        await _next(socket, "pong")
        await socket.send('{"type": "subscribe", "all": true}')
        await _next(socket, "subscribed")
        other = _event(api, "another", "default", "other")
        assert (await _next(socket))["seq"] == other
        await socket.send("{")
        assert (await _next(socket, "error"))["code"] == "invalid_request"


async def test_many_listeners_each_get_every_event(api: Api, admin: httpx.Client, experiment: str) -> None:
    headers = {"Authorization": admin.headers["authorization"]}
    sockets = [await connect(f"{api.streams}/?experiment={experiment}", additional_headers=headers) for _ in range(30)]
    for socket in sockets:
        await _next(socket, "hello")
    sent = [_event(api, experiment, "default", f"n{i}") for i in range(5)]
    for socket in sockets:
        assert [(await _next(socket))["seq"] for _ in sent] == sent
        await socket.close()


async def test_a_stream_shows_nothing_that_may_not_be_seen(api: Api, experiment: str) -> None:
    with api.client("kurt") as kurt:
        token = kurt.headers["authorization"].partition(" ")[2]
    async with connect(f"{api.streams}/") as socket:
        await socket.send(json.dumps({"type": "auth", "token": token}))
        await _next(socket, "hello")
        await socket.send(json.dumps({"type": "subscribe", "experiment": experiment}))
        assert (await _next(socket, "error"))["code"] == "not_found"
        await socket.send('{"type": "subscribe", "all": true}')
        await _next(socket, "subscribed")
        _event(api, experiment, "default", "secret")
        _event(api, None, None, "worker.lost")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await _next(socket)
    headers = {"Authorization": f"Bearer {token}"}
    for address, sent, code in (
        (f"{api.streams}/", {"Authorization": "Bearer nonsense"}, NOT_AUTHENTICATED),
        (f"{api.streams}/?experiment={experiment}", headers, NOT_ALLOWED),
    ):
        async with connect(address, additional_headers=sent) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await _next(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def _breaks_nothing(api: Api, operation: Any, experiment: str) -> None:
    # What ends the logins of others would leave the rest of the run without any.
    closed = operation.path in {"/api/v1/auth/logout", "/api/v1/users/{name}/password"}
    with api.client() as client:
        headers = {} if closed else {"Authorization": client.headers["authorization"]}

    @given(case=operation.as_strategy(), real=booleans())
    @settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: schemathesis.Case[Any], real: bool) -> None:
        if real and "experiment" in (case.path_parameters or {}):
            case.path_parameters["experiment"] = experiment
        case.call_and_validate(checks=CHECKS, headers=headers, timeout=30)

    holds()


@pytest.mark.timeout(600)
def test_no_request_breaks_the_contract(api: Api, experiment: str) -> None:
    schema = schemathesis.openapi.from_url(f"{api.base}/api/v1/openapi.json")
    failures = []
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        try:
            _breaks_nothing(api, operation, experiment)
        except (AssertionError, BaseExceptionGroup) as error:
            failures.append(f"{operation.label}: {error!r} {getattr(error, 'exceptions', '')}")
    assert not failures, "\n\n".join(failures)
