"""Logging in, refreshing, trying again: against a platform that misbehaves on purpose."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from airavata_scheduler.client import (
    Client,
    ConflictError,
    InvalidDocumentError,
    NotAuthenticatedError,
    UnavailableError,
    UnreachableError,
)
from airavata_scheduler.client.target import Target, find_target
from airavata_scheduler.client.tokens import Tokens
from airavata_scheduler.client.transport import Transport

URL = "http://platform.test"


class Platform:
    """Answers logins and counts; everything else is up to `answer`."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer = answer
        self.valid = {"access-0"}
        self.refreshable = {"refresh-0"}
        self.made = 0
        self.calls: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.calls.append(path)
        if path == "/auth/login":
            body = json.loads(request.content)
            return self.tokens() if body["password"] == "right" else refusal(401, "not_authenticated")
        if path == "/auth/refresh":
            token = json.loads(request.content)["refresh_token"]
            if token not in self.refreshable:
                return refusal(401, "not_authenticated")
            self.refreshable.remove(token)
            return self.tokens()
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.valid:
            return refusal(401, "not_authenticated")
        return self.answer(request)

    def tokens(self) -> httpx.Response:
        self.made += 1
        self.valid = {f"access-{self.made}"}
        self.refreshable.add(f"refresh-{self.made}")
        pair = {"access_token": f"access-{self.made}", "refresh_token": f"refresh-{self.made}"}
        return httpx.Response(200, json={**pair, "token_type": "bearer", "expires_in": 3600})


def refusal(status: int, code: str, **more: Any) -> httpx.Response:
    form = {"code": code, "message": f"it is {code}", "path": "", "remedy": "do better", "request_id": "r1"}
    return httpx.Response(status, json={**form, **more}, headers={"Retry-After": "0"} if status == 503 else {})


def fine(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"name": "ada"})


class Clock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def connect(
    platform: Platform, tmp_path: Path, *, password: str | None = "right", token: str | None = None
) -> Transport:
    target = Target(URL, tmp_path, tmp_path / "client", "ada" if password else None, password, token)
    clock = Clock()
    return Transport(target, transport=httpx.MockTransport(platform), sleep=clock.sleep, clock=clock)


def test_logs_in_once_and_keeps_the_tokens_for_the_next_run(tmp_path: Path) -> None:
    platform = Platform(fine)
    connect(platform, tmp_path).json("GET", "/auth/whoami")
    connect(platform, tmp_path).json("GET", "/auth/whoami")
    assert platform.calls.count("/auth/login") == 1
    file = tmp_path / "client" / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "right" not in file.read_text()


def test_a_refused_token_is_refreshed_and_the_request_repeated(tmp_path: Path) -> None:
    platform = Platform(fine)
    transport = connect(platform, tmp_path)
    transport.json("GET", "/auth/whoami")
    platform.valid = set()
    assert transport.json("POST", "/experiments") == {"name": "ada"}
    assert platform.calls.count("/auth/refresh") == 1
    assert platform.calls.count("/auth/login") == 1


def test_a_revoked_family_leads_to_a_new_login(tmp_path: Path) -> None:
    platform = Platform(fine)
    transport = connect(platform, tmp_path)
    transport.json("GET", "/auth/whoami")
    platform.valid, platform.refreshable = set(), set()
    assert transport.json("GET", "/auth/whoami") == {"name": "ada"}
    assert platform.calls.count("/auth/login") == 2


def test_another_process_that_refreshed_first_is_believed(tmp_path: Path) -> None:
    platform = Platform(fine)
    first, second = connect(platform, tmp_path), connect(platform, tmp_path)
    first.json("GET", "/auth/whoami")
    second.json("GET", "/auth/whoami")
    platform.valid = set()
    first.json("GET", "/auth/whoami")
    second.json("GET", "/auth/whoami")
    assert platform.calls.count("/auth/refresh") == 1


def test_without_credentials_it_says_how_to_log_in(tmp_path: Path) -> None:
    with pytest.raises(NotAuthenticatedError) as raised:
        connect(Platform(fine), tmp_path, password=None).json("GET", "/auth/whoami")
    assert "airavata auth login" in raised.value.remedy


def test_a_wrong_password_is_not_tried_for_ever(tmp_path: Path) -> None:
    platform = Platform(fine)
    with pytest.raises(NotAuthenticatedError):
        connect(platform, tmp_path, password="wrong").json("GET", "/auth/whoami")
    assert len(platform.calls) <= 2


def test_logout_forgets(tmp_path: Path) -> None:
    platform = Platform(fine)
    transport = connect(platform, tmp_path)
    transport.login("ada", "right")
    assert transport.logout() == "ada"
    assert "access-1" not in (tmp_path / "client" / "tokens.json").read_text()


def test_logout_ends_the_login_of_a_token_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        ended.append(request.headers["Authorization"])
        return httpx.Response(204)

    platform = Platform(answer)
    connect(platform, tmp_path).login("ada", "right")
    platform.valid = set()
    monkeypatch.setattr(Tokens, "fresh", lambda _self: False)
    assert connect(platform, tmp_path).logout() == "ada"
    assert platform.calls[-2:] == ["/auth/refresh", "/auth/logout"]
    assert ended == ["Bearer access-2"]


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(503, json={"code": "unavailable", "message": "restarting"}, headers={"Retry-After": "1"}),
        httpx.Response(404, text="Path '/api/v1/x' not found. Please ping for available routes"),
        httpx.Response(500, text="Internal Server Error"),
        httpx.ReadError("reset"),
        httpx.ConnectError("refused"),
    ],
)
def test_reading_is_repeated_while_the_platform_restarts(tmp_path: Path, trouble: Any) -> None:
    answers = [trouble, trouble, httpx.Response(200, json={"good": True})]

    def answer(_request: httpx.Request) -> httpx.Response:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert connect(Platform(answer), tmp_path).json("GET", "/x") == {"good": True}
    assert not answers


def test_what_may_have_been_done_is_not_done_again(tmp_path: Path) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        raise httpx.ReadError("reset")

    with pytest.raises(UnreachableError):
        connect(Platform(answer), tmp_path).json("POST", "/projects", json={"name": "x"})
    assert len(seen) == 1


def test_giving_up_is_bounded_and_names_the_address(tmp_path: Path) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    clock = Clock()
    target = Target(URL, tmp_path, tmp_path, token="t")
    transport = Transport(target, patience_s=10, transport=httpx.MockTransport(answer), sleep=clock.sleep, clock=clock)
    with pytest.raises(UnreachableError, match=r"platform\.test"):
        transport.json("GET", "/x")
    assert 5 < clock.now <= 10
    assert len(clock.slept) < 20


def test_submitting_twice_because_of_a_lost_answer_makes_one_experiment(tmp_path: Path) -> None:
    made: dict[str, dict[str, Any]] = {}
    losses = [True, True, False]

    def answer(request: httpx.Request) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        state = made.setdefault(key, {"id": f"e{len(made)}", "name": "x", "status": "RUNNING", "tasks": {"total": 1}})
        if losses.pop(0):
            raise httpx.ReadError("the answer got lost")
        return httpx.Response(201, json=state)

    client = Client(URL, tmp_path, token="access-0", transport=httpx.MockTransport(Platform(answer)))
    client.transport._sleep = lambda _s: None
    assert client.submit({"tasks": {"a": {"command": ["true"]}}}).id == "e0"
    assert len(made) == 1


def test_errors_carry_the_whole_form(tmp_path: Path) -> None:
    problems = [{"path": "tasks.a.colour", "message": "is not known", "value": "'red'", "remedy": "remove it"}]
    platform = Platform(lambda _r: refusal(422, "invalid_document", problems=problems))
    with pytest.raises(InvalidDocumentError) as raised:
        connect(platform, tmp_path).json("POST", "/experiments")
    assert raised.value.problems[0].path == "tasks.a.colour"
    assert raised.value.request_id == "r1"
    assert "remove it" in str(raised.value)
    with pytest.raises(ConflictError):
        connect(Platform(lambda _r: refusal(409, "conflict")), tmp_path).json("POST", "/experiments/e/pause")


def test_a_broken_stream_is_unavailable(tmp_path: Path) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"abc"
            raise httpx.ReadError("reset")

    transport = connect(Platform(lambda _r: httpx.Response(200, stream=Broken())), tmp_path)
    with pytest.raises(UnavailableError), transport.stream("/x") as response:
        list(response.iter_bytes())


def running(home: Path, port: int = 9999) -> None:
    (home / "run").mkdir(parents=True, exist_ok=True)
    (home / "secrets").mkdir(exist_ok=True)
    (home / "run" / "settings.json").write_text(json.dumps({"http_host": "0.0.0.0", "http_port": port}))
    (home / "secrets" / "admin.json").write_text(json.dumps({"username": "admin", "password": "right"}))


def test_where_the_platform_is_found(tmp_path: Path) -> None:
    running(tmp_path)
    there = {"AIRAVATA_SERVER_URL": "https://far.test/", "AIRAVATA_TOKEN": "t"}
    assert find_target(url="http://a.test", home=tmp_path, environment=there).url == "http://a.test"
    asked = find_target(home=tmp_path, environment=there)
    assert (asked.url, asked.token, asked.credentials) == ("http://127.0.0.1:9999", None, ("admin", "right"))
    far = find_target(environment={**there, "AIRAVATA_HOME": str(tmp_path)})
    assert (far.url, far.token, far.credentials) == ("https://far.test", "t", None)
    assert find_target(environment={"AIRAVATA_HOME": str(tmp_path)}).local


def test_no_platform_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as raised:
        find_target(home=tmp_path / "none", environment={})
    assert "airavata up --home" in raised.value.remedy


def test_the_admin_secret_is_not_sent_elsewhere(tmp_path: Path) -> None:
    running(tmp_path)
    assert find_target(url="http://evil.test", home=tmp_path, environment={}).credentials is None


def test_a_platform_that_comes_back_at_another_port_is_found_again(tmp_path: Path) -> None:
    running(tmp_path, 1111)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.port == 1111:
            running(tmp_path, 2222)
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"port": request.url.port})

    client = Client(home=tmp_path, token="access-0", transport=httpx.MockTransport(Platform(answer)))
    client.transport._sleep = lambda _s: None
    assert client.transport.json("GET", "/x") == {"port": 2222}
