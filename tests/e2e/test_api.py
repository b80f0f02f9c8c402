"""The HTTP interface as a program sees it: permissions, tokens, errors, pages, tags, streams, metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

if TYPE_CHECKING:
    from conftest import Platform

_TRUE = {"name": "api", "tasks": {"a": {"command": ["true"], "task_inputs": {"I": "1..5"}}}}
_ERROR = {"code", "message", "path", "remedy", "request_id"}
_PASSWORD = "correct horse battery"

#: A document, and the place at which it is wrong.
_BAD = [
    ("", "tasks"),
    ("tasks: {a: {command: ['true'], colour: red}}", "tasks.a.colour"),
    ("tasks: {a: {command: ['true'], task_inputs: {X: []}}}", "tasks.a.task_inputs.X"),
    ("tasks: {a: {command: ['true'], depends_on: [b]}, b: {command: ['true'], depends_on: [a]}}", "tasks"),
    ("tasks: {a: {command: ['true']}}\nresources: {compute: {cpu: 100000}}", "resources.compute.cpu"),
    ("tasks: {a: {command: ['true'], task_outputs: {O: ../../etc/passwd}}}", "tasks.a.task_outputs.O"),
    ("{", ""),
]


@pytest.fixture
def admin(platform: Platform) -> Iterator[httpx.Client]:
    with platform.api() as client:
        yield client


@pytest.fixture(scope="module")
def people(_started: Platform) -> dict[str, str]:
    """Users by their role in the project `shared`; `nobody` has none."""
    with _started.api() as client:
        assert client.post("/projects", json={"name": "shared"}).status_code == 201
        for name, role in (("e2e-viewer", "viewer"), ("e2e-editor", "editor"), ("e2e-nobody", "")):
            assert client.post("/users", json={"name": name, "password": _PASSWORD}).status_code == 201
            if role:
                client.put(f"/projects/shared/members/{name}", json={"role": role}).raise_for_status()
    return {"viewer": "e2e-viewer", "editor": "e2e-editor", "nobody": "e2e-nobody"}


def _refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) >= _ERROR
    assert body["message"]
    assert body["remedy"]
    return body


def test_openapi_is_complete(platform: Platform) -> None:
    document = httpx.get(f"{platform.url}/openapi.json", timeout=30).raise_for_status().json()
    operations = [(path, verb, op) for path, verbs in document["paths"].items() for verb, op in verbs.items()]
    assert len(operations) > 40
    for path, verb, operation in operations:
        assert operation.get("description") or operation.get("summary"), (path, verb)
        assert path.startswith("/api/v1/"), path
    assert document["components"]["securitySchemes"]


def test_every_route_but_login_and_health_wants_a_token(platform: Platform) -> None:
    document = httpx.get(f"{platform.url}/openapi.json", timeout=30).json()
    open_to_all = {"/api/v1/health", "/api/v1/auth/login", "/api/v1/auth/refresh"}
    with httpx.Client(base_url=platform.url.removesuffix("/api/v1"), timeout=30) as client:
        assert client.get("/api/v1/health").status_code == 200
        for path, verbs in document["paths"].items():
            for verb in verbs:
                if path in open_to_all:
                    continue
                concrete = path.replace("{index}", "0").replace("{worker}", "0").replace("{", "").replace("}", "")
                body = _refused(client.request(verb, concrete), 401)
                assert body["code"] == "not_authenticated", (verb, path)
        forged = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."}
        _refused(client.get("/api/v1/experiments", headers=forged), 401)


def test_refresh_rotates_and_reuse_ends_the_login(platform: Platform, people: dict[str, str]) -> None:
    with httpx.Client(base_url=platform.url, timeout=30) as client:
        _refused(client.post("/auth/login", json={"username": people["viewer"], "password": "wrong"}), 401)
        body = {"username": people["viewer"], "password": _PASSWORD}
        first = client.post("/auth/login", json=body).raise_for_status().json()
        second = client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}).raise_for_status().json()
        assert second["refresh_token"] != first["refresh_token"]
        bearer = {"Authorization": f"Bearer {second['access_token']}"}
        assert client.get("/auth/whoami", headers=bearer).json()["name"] == people["viewer"]
        _refused(client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}), 401)
        _refused(client.post("/auth/refresh", json={"refresh_token": second["refresh_token"]}), 401)


def test_logout_voids_the_token(platform: Platform, people: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {platform.login(people['viewer'], _PASSWORD)['access_token']}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=30) as client:
        assert client.get("/experiments").status_code == 200
        assert client.post("/auth/logout").status_code == 204
        _refused(client.get("/experiments"), 401)


def test_roles(platform: Platform, people: dict[str, str]) -> None:
    body = {"document": _TRUE, "project": "shared"}
    with platform.api(people["editor"], _PASSWORD) as editor:
        made = editor.post("/experiments", json=body)
        assert made.status_code == 201, made.text
        experiment = made.json()["id"]
        assert editor.post(f"/experiments/{experiment}/cancel").status_code == 200
        _refused(editor.post("/users", json={"name": "mallory", "password": _PASSWORD}), 403)
    with platform.api(people["viewer"], _PASSWORD) as viewer:
        assert viewer.get(f"/experiments/{experiment}").json()["id"] == experiment
        _refused(viewer.post("/experiments", json=body), 403)
        _refused(viewer.post(f"/experiments/{experiment}/cancel"), 403)
        _refused(viewer.delete(f"/experiments/{experiment}"), 403)
    with platform.api(people["nobody"], _PASSWORD) as nobody:
        _refused(nobody.get(f"/experiments/{experiment}"), 404)
        _refused(nobody.post("/experiments", json=body), 404)
        assert nobody.get("/experiments").json()["items"] == []


def test_disabled_user_is_out_at_once(platform: Platform, people: dict[str, str], admin: httpx.Client) -> None:
    with platform.api(people["nobody"], _PASSWORD) as nobody:
        assert nobody.get("/experiments").status_code == 200
        admin.patch(f"/users/{people['nobody']}", json={"disabled": True}).raise_for_status()
        assert nobody.get("/experiments").status_code in {401, 403}
        admin.patch(f"/users/{people['nobody']}", json={"disabled": False}).raise_for_status()


@pytest.mark.parametrize(("document", "place"), _BAD)
def test_bad_documents_name_the_place_and_store_nothing(admin: httpx.Client, document: str, place: str) -> None:
    before = admin.get("/experiments", params={"limit": 1}).json()["items"]
    body = _refused(admin.post("/experiments", json={"document": document}), 422)
    assert body["code"] == "invalid_document"
    assert any(problem["path"].startswith(place) for problem in body["problems"]), body["problems"]
    assert admin.get("/experiments", params={"limit": 1}).json()["items"] == before


def test_bad_requests_are_refused_in_the_one_form(admin: httpx.Client) -> None:
    _refused(admin.get("/experiments/e-nowhere"), 404)
    _refused(admin.get("/nothing-here"), 404)
    _refused(admin.put("/experiments"), 405)
    _refused(admin.get("/experiments", params={"limit": 0}), 422)
    _refused(admin.get("/experiments", params={"cursor": "made up"}), 422)
    _refused(admin.post("/experiments", content=b"{", headers={"Content-Type": "application/json"}), 422)
    _refused(admin.post("/experiments", json={"document": _TRUE, "project": "a\x00b"}), 422)


def test_idempotency_key(admin: httpx.Client) -> None:
    headers = {"Idempotency-Key": "e2e-api-key"}
    first = admin.post("/experiments", json={"document": _TRUE}, headers=headers)
    again = admin.post("/experiments", json={"document": _TRUE}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert admin.post("/experiments", json={"document": _TRUE}).json()["id"] != first.json()["id"]
    for other in ({"document": {**_TRUE, "name": "other"}}, {"document": _TRUE, "start": False}):
        _refused(admin.post("/experiments", json=other, headers=headers), 409)
    derived = {"Idempotency-Key": "e2e-api-derived"}
    made = [admin.post(f"/experiments/{first.json()['id']}/resubmit", headers=derived).json() for _ in range(2)]
    assert made[0]["id"] == made[1]["id"] != first.json()["id"]
    error = admin.post("/experiments", json={"document": _TRUE}, headers=derived).json()
    assert error["code"] == "idempotency_key_reused"
    assert made[0]["id"] in error["message"]
    assert error["remedy"]


def test_etag_spares_what_has_not_changed(platform: Platform, admin: httpx.Client) -> None:
    experiment = platform.run(json.dumps(_TRUE))["id"]
    first = admin.get(f"/experiments/{experiment}")
    tag = first.headers["ETag"]
    same = admin.get(f"/experiments/{experiment}", headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    assert admin.get(f"/experiments/{experiment}", headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_pages_give_every_task_once(platform: Platform, admin: httpx.Client) -> None:
    text = "tasks: {a: {command: ['true'], task_inputs: {I: 1..23}}, b: {command: ['true'], task_inputs: {I: 1..4}}}"
    experiment = platform.run(text)["id"]
    seen: list[tuple[str, int]] = []
    cursor = None
    while True:
        params = {"limit": 7, **({"cursor": cursor} if cursor else {})}
        page = admin.get(f"/experiments/{experiment}/tasks", params=params).raise_for_status().json()
        seen += [(row["step"], row["index"]) for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [("a", i) for i in range(23)] + [("b", i) for i in range(4)]


def test_metrics_are_of_the_present(platform: Platform, admin: httpx.Client) -> None:
    text = admin.get("/metrics").raise_for_status().text
    assert "# HELP" in text
    assert "airavata_" in text
    assert not any(experiment in text for experiment in platform.experiments), "ids are no labels"


def _stream(platform: Platform, client: httpx.Client, query: str) -> Any:
    url = platform.url.replace("http:", "ws:") + f"/stream?{query}"
    return connect(url, additional_headers={"Authorization": client.headers["Authorization"]}, open_timeout=30)


def _events(socket: Any, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    found = []
    while not (found and until(found[-1])):
        message = json.loads(socket.recv(timeout=60))
        if message["type"] == "event":
            found.append(message)
    return found


def _ended(event: dict[str, Any]) -> bool:
    return str(event["kind"]).startswith("experiment.") and event["data"].get("status") == "SUCCEEDED"


def test_stream_is_live_and_replays_from_a_cursor(platform: Platform, admin: httpx.Client) -> None:
    body = {"document": {**_TRUE, "name": "stream"}, "start": False}
    experiment = admin.post("/experiments", json=body).json()["id"]
    with _stream(platform, admin, f"experiment={experiment}&after=0") as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "hello"
        admin.post(f"/experiments/{experiment}/start").raise_for_status()
        live = _events(socket, _ended)
    numbers = [event["seq"] for event in live]
    assert numbers == sorted(set(numbers))
    assert {event["experiment"] for event in live} == {experiment}
    with _stream(platform, admin, f"experiment={experiment}&after={numbers[0]}") as socket:
        replayed = _events(socket, _ended)
    assert [event["seq"] for event in replayed] == numbers[1:]


def test_stream_wants_a_token_and_the_right_to_look(platform: Platform, people: dict[str, str]) -> None:
    url = platform.url.replace("http:", "ws:") + "/stream"
    with connect(url, additional_headers={"Authorization": "Bearer none"}, open_timeout=30) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
    with platform.api() as client:
        experiment = client.post("/experiments", json={"document": _TRUE}).json()["id"]
    with (
        platform.api(people["nobody"], _PASSWORD) as nobody,
        _stream(platform, nobody, f"experiment={experiment}") as socket,
    ):
        assert json.loads(socket.recv(timeout=30))["type"] == "error"
