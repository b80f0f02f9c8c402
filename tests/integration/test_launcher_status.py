"""`status` of a platform whose processes and API are played by this test: healthy only if everything is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.status import status
from airavata_scheduler.settings import Paths, Settings


class Health(BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code if self.path == "/api/v1/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Paths]:
    """The files of a healthy platform without a database or a Ray of its own, all of whose processes are this one."""
    settings = Settings.load(home=tmp_path / "home", database_url="postgresql://u:p@h/d")
    settings.paths.create()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    Thread(target=server.serve_forever, daemon=True).start()
    me = processes.identify_self().as_json()
    own = [{"name": name, "role": "supervisor", **me} for name in ("supervisor", "keeper")]
    state = {"url": f"http://127.0.0.1:{server.server_port}", "version": "1", "processes": own, "problems": {}}
    processes.write_json(settings.paths.processes, state)
    cluster = {
        "at": time.time(),
        "healthy": True,
        "problems": [],
        "processes": [{"name": "api", "role": "api", "pid": me["pid"]}],
        "workers": [{"name": "w"}],
    }
    processes.write_json(settings.paths.cluster, cluster)
    yield settings.paths
    server.shutdown()
    server.server_close()


def _change(path: Path, **values: object) -> None:
    processes.write_json(path, {**processes.read_json(path), **values})


def test_status_is_healthy_when_everything_is(running: Paths) -> None:
    answer = status(running.home)
    assert answer["problems"] == []
    assert answer["healthy"]
    assert [entry["name"] for entry in answer["processes"]] == ["supervisor", "keeper", "api"]
    assert answer["workers"] == [{"name": "w"}]


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("cluster", {"at": 0}, "s old"),
        ("cluster", {"healthy": False, "stage": "creating actors"}, "creating actors"),
        ("cluster", {"problems": ["svc.x is restarting"]}, "svc.x is restarting"),
        ("cluster", {"processes": [{"name": "api", "role": "api", "pid": 2**22 + 1}]}, "api .* is not alive"),
        ("processes", {"processes": []}, "supervisor is not running"),
        ("processes", {"problems": {"postgres": "PostgreSQL died"}}, "PostgreSQL died"),
        ("processes", {"own_ray": True}, r"ray\.raylet is not running"),
        ("processes", {"url": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_status_is_unhealthy_for_each_reason(running: Paths, file: str, values: dict[str, object], words: str) -> None:
    _change(getattr(running, file), **values)
    answer = status(running.home)
    assert not answer["healthy"]
    assert any(re.search(words, problem) for problem in answer["problems"]), answer["problems"]


def test_an_api_that_answers_with_an_error_is_unhealthy(running: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Health, "code", 503)
    assert status(running.home)["problems"][0].endswith("answers 503")
