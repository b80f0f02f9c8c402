"""Every route asks who it is and whether it may, and every error has the one form; nothing leaves the process."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import FastAPI

from airavata_scheduler.adapters.memory.authorization import MemoryAuthorization
from airavata_scheduler.adapters.memory.event_bus import MemoryEventBus
from airavata_scheduler.adapters.memory.identity import MemoryIdentityStore
from airavata_scheduler.adapters.memory.rate_limit import MemoryRateLimit
from airavata_scheduler.api.app import build_app
from airavata_scheduler.api.errors import ErrorModel
from airavata_scheduler.api.services import ApiLimits, ApiServices
from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.services.identity import Identity, IdentitySettings, ensure_admin

PASSWORD = "correct horse battery"
OPEN = {("POST", "/api/v1/auth/login"), ("POST", "/api/v1/auth/refresh"), ("GET", "/api/v1/health")}
BODIES: dict[str, Any] = {
    "/api/v1/users": {"name": "x", "password": PASSWORD},
    "/api/v1/users/{name}/password": {"new": PASSWORD},
    "/api/v1/projects": {"name": "x"},
    "/api/v1/projects/{name}/members/{user}": {"role": "viewer"},
    "/api/v1/experiments": {"document": "name: x"},
    "/api/v1/experiments/validate": {"document": "name: x"},
    "/api/v1/experiments/plan": {"document": "name: x"},
}


class Still:
    """A clock that stands."""

    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, delay_s: float) -> None: ...


class Broken:
    """Stands for whatever the API calls behind the permission check: nothing of it may be reached by a stranger."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        async def call(*_: Any, **__: Any) -> Any:
            if name == "project_of":
                return "default"
            raise self.error

        return call


def services(error: Exception, authorization: MemoryAuthorization) -> tuple[ApiServices, MemoryIdentityStore]:
    store, clock, broken = MemoryIdentityStore(), Still(), Broken(error)
    limits = MemoryRateLimit(clock, {"login": (5, 60.0)})
    behind: Any = broken
    made = ApiServices(
        queries=behind, identity=Identity(store, limits, clock, IdentitySettings("k" * 40, cost=4)),
        authorization=authorization, rate_limit=limits, event_bus=MemoryEventBus(), storage=lambda _: behind,
        orchestrator=behind, scheduler=behind, workers=behind, resources=behind, vault=behind, mover=behind,
        version="1", clock=clock, limits=ApiLimits(body_bytes=5000, document_characters=1000),
    )  # fmt: skip
    return made, store


@pytest.fixture
async def open_app() -> FastAPI:
    """The administrator may do everything, and everything behind the API fails."""
    made, store = services(RuntimeError("secret detail"), MemoryAuthorization([], ["admin"], {"default": {}}))
    await ensure_admin(store, "admin", PASSWORD, 0.0, cost=4)
    return build_app(made)


@pytest.fixture
async def client(open_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(open_app) as made:
        yield made


def connect(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api")


async def login(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post("/api/v1/auth/login", json={"username": "admin", "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def operations(app: FastAPI) -> list[tuple[str, str]]:
    found = [(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item]
    return [*sorted(set(found) - OPEN), ("GET", "/metrics")]


async def test_no_route_answers_a_stranger(open_app: FastAPI, client: httpx.AsyncClient) -> None:
    assert len(operations(open_app)) > 45
    for method, path in operations(open_app):
        answer = await client.request(method, re.sub(r"\{\w+\}", "1", path), json=BODIES.get(path))
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_route_asks_for_permission() -> None:
    made, store = services(RuntimeError("reached"), MemoryAuthorization([]))
    await ensure_admin(store, "admin", PASSWORD, 0.0, cost=4)
    app = build_app(made)
    async with connect(app) as client:
        headers = await login(client)
        for method, path in operations(app):
            address = re.sub(r"\{\w+\}", "1", path)
            answer = await client.request(method, address, json=BODIES.get(path, {}), headers=headers)
            if (method, path) == ("GET", "/api/v1/projects"):
                assert answer.json() == {"items": []}
            elif (method, path) != ("GET", "/api/v1/experiments"):
                assert answer.status_code in {403, 404}, (method, path, answer.text)


async def test_a_fault_of_ours_tells_nothing_but_its_id(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/resources", headers={**await login(client), "X-Request-Id": "abc"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "abc"
    assert "secret" not in answer.text


async def test_what_is_away_says_when_to_come_back() -> None:
    error = UnavailableError("the actor restarts", retry_after_s=2.5)
    made, store = services(error, MemoryAuthorization([], ["admin"], {"default": {}}))
    await ensure_admin(store, "admin", PASSWORD, 0.0, cost=4)
    async with connect(build_app(made)) as client:
        answer = await client.post("/api/v1/experiments/e/cancel", headers=await login(client))
        health = await client.get("/api/v1/health")
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "3", "unavailable")
    assert health.status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/api/v1/nowhere", None, 404, "not_found"),
        ("PUT", "/api/v1/health", None, 405, "method_not_allowed"),
        ("POST", "/api/v1/auth/login", b"{", 422, "invalid_request"),
        ("POST", "/api/v1/auth/login", b"\xff\xfe", 422, "invalid_request"),
        ("POST", "/api/v1/auth/login", b"[" * 4000, 422, "invalid_request"),
        ("POST", "/api/v1/auth/login", b"{}", 422, "invalid_request"),
        ("POST", "/api/v1/auth/login", b'{"username": "a", "password": "\\u0000"}', 422, "invalid_request"),
        ("POST", "/api/v1/auth/login", b'{"username": "\\ud800", "password": "x"}', 422, "invalid_request"),
        ("POST", "/api/v1/auth/login", b" " * 5001, 413, "too_large"),
        ("GET", "/api/v1/experiments?name=%00", None, 422, "invalid_request"),
        ("GET", "/api/v1/experiments/%00", None, 422, "invalid_request"),
        ("GET", "/api/v1/experiments?limit=0", None, 422, "invalid_request"),
        ("GET", "/api/v1/experiments?status=BLUE", None, 422, "invalid_request"),
        ("GET", "/api/v1/experiments/e/tasks/s/-1", None, 422, "invalid_request"),
    ],
)
async def test_bad_requests_have_the_one_form(
    client: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    headers = {**await login(client), "Content-Type": "application/json"}
    answer = await client.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert set(answer.json()) >= {"code", "message", "path", "remedy", "request_id"}
    if code == "invalid_request":
        assert set(answer.json()["problems"][0]) == {"path", "message", "value", "remedy"}


async def test_a_password_is_never_repeated(client: httpx.AsyncClient) -> None:
    for body in ({"username": "admin", "password": "hunter2" * 200}, {"password": "hunter2"}):
        answer = await client.post("/api/v1/auth/login", json=body)
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


async def test_a_document_has_a_limit(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/api/v1/experiments/validate", json={"document": "x" * 1001}, headers=await login(client)
    )
    assert (answer.status_code, answer.json()["path"]) == (422, "document")


async def test_logins_are_limited(client: httpx.AsyncClient) -> None:
    wrong = {"username": "admin", "password": "x"}
    codes = [(await client.post("/api/v1/auth/login", json=wrong)).status_code for _ in range(6)]
    assert codes == [401] * 5 + [429]


def test_the_openapi_document_is_complete(open_app: FastAPI) -> None:
    document = open_app.openapi()
    models = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            what = (method, path)
            assert operation["summary"], what
            assert operation["description"], what
            assert "422" in operation["responses"], what
            assert all(parameter["description"] for parameter in operation.get("parameters", ())), what
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert has_example(content, models), what
            for code, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    assert has_example(content, models), (*what, code, media_type)
                    if int(code) >= 400:
                        assert content["schema"]["$ref"].endswith("/ErrorModel"), (*what, code)
                        ErrorModel.model_validate(content["example"])
            if (method.upper(), path) not in OPEN:
                assert {"401", "403"} <= set(operation["responses"]), what
                assert operation["security"], what


def has_example(content: dict[str, Any], models: dict[str, Any]) -> bool:
    """Of this body itself, or of its model; bytes need none."""
    schema = content["schema"]
    model = models[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return bool({"example", "examples"} & {*content, *model}) or schema.get("format") == "binary"


def test_examples_of_the_openapi_document_fit_its_models(open_app: FastAPI) -> None:
    document = open_app.openapi()
    found = 0
    for name, model in document["components"]["schemas"].items():
        for example in model.get("examples", ()):
            whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            jsonschema.validate(example, whole)
            found += 1
    assert found > 25


async def test_the_page_of_the_api_needs_no_other_server(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/v1/docs")
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert "/api/v1/openapi.json" in addresses
    for address in addresses:
        assert address.startswith("/api/v1/"), address
        answer = await client.get(address)
        assert (answer.status_code, bool(answer.content)) == (200, True), address
