"""`up`, `status`, `down` and the supervisor, with a real PostgreSQL and Ray; a small program plays the keeper."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.commands import LaunchError, doctor, down, status, up
from airavata_scheduler.launcher.ports import free_port
from airavata_scheduler.launcher.processes import FileLock
from airavata_scheduler.launcher.ray_head import belongings
from airavata_scheduler.settings import Settings

pytestmark = pytest.mark.timeout(300)
_HEALED_S = 90.0

_KEEPER = """
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from airavata_scheduler.settings import Settings

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/v1/health" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass

settings = Settings.from_run(sys.argv[2])
assert os.environ["RAY_ADDRESS"]
assert not (settings.paths.home / "broken").exists()
ThreadingHTTPServer.allow_reuse_port = True  # as Serve does
server = ThreadingHTTPServer((settings.http_host, settings.http_port), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
me = {"name": "keeper", "role": "supervisor", "pid": os.getpid()}
while True:
    report = {"at": time.time(), "healthy": True, "stage": "running", "problems": [], "workers": [],
              "processes": [me, {"name": "api", "role": "api", "pid": os.getpid()}]}
    temporary = settings.paths.run / ".report"
    temporary.write_text(json.dumps(report))
    temporary.replace(settings.paths.cluster)
    time.sleep(0.5)
"""
_UP = """
import sys
from airavata_scheduler.launcher.commands import up
from airavata_scheduler.settings import Settings

modules = {"keeper_module": "played_keeper", "migrate_module": "played_migrate"}
up(Settings.load(home=sys.argv[1], http_port=int(sys.argv[2]), cpus=1, **modules), detach=True)
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    modules = tmp_path_factory.mktemp("modules")
    (modules / "played_keeper.py").write_text(_KEEPER)
    (modules / "played_migrate.py").write_text("print('nothing to do')\n")
    (modules / "failing_migrate.py").write_text("raise SystemExit('no such database')\n")
    made = Settings.load(
        home=tmp_path_factory.mktemp("platform") / "home",
        http_port=free_port(exclude=set()),
        cpus=1,
        keeper_module="played_keeper",
        migrate_module="played_migrate",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(modules), *sys.path]))
        yield made
        down(made.home)
        shutil.rmtree(made.paths.short, ignore_errors=True)


@pytest.fixture
def running(settings: Settings) -> Settings:
    up(settings, detach=True)
    return settings


def _pids(settings: Settings) -> dict[str, int]:
    """Without the children of Ray's dashboard, which come and go while it starts: nobody waits for that."""
    found = status(settings.home)["processes"]
    return {entry["name"]: entry["pid"] for entry in found if not entry["name"].startswith("ray.dashboard.")}


def _heals(settings: Settings, name: str, old: int) -> bool:
    def healed() -> bool:
        return bool(status(settings.home)["healthy"]) and _pids(settings).get(name, old) != old

    return processes.wait_until(healed, _HEALED_S, step_s=0.1)


def test_up_twice_is_up_once(running: Settings) -> None:
    before = _pids(running)
    again = up(running, detach=True)
    assert again.already_running
    assert again.url == running.url
    assert again.admin_credentials_file.exists()
    assert _pids(running) == before
    assert {"supervisor", "keeper", "postgres", "ray.gcs_server", "ray.raylet", "ray.dashboard", "api"} <= before.keys()
    assert [check for check in doctor(running.home) if check.ok is False] == []


@pytest.mark.parametrize("name", ["postgres", "keeper", "ray.gcs_server"])
def test_what_is_killed_comes_back(running: Settings, name: str) -> None:
    old = _pids(running)
    os.kill(old[name], signal.SIGKILL)
    assert _heals(running, name, old[name]), status(running.home)["problems"]
    if name.startswith("ray."):
        assert _heals(running, "keeper", old["keeper"]), "the keeper of the old head is of no use"
        assert not any(
            process is not None and process.alive()
            for process in (processes.identify(pid) for key, pid in old.items() if key.startswith("ray."))
        )


def test_a_killed_dashboard_comes_back_alone(running: Settings) -> None:
    old = _pids(running)
    assert os.getpriority(os.PRIO_PROCESS, old["ray.dashboard"]) == 19
    os.kill(old["ray.dashboard"], signal.SIGKILL)
    assert _heals(running, "ray.dashboard", old["ray.dashboard"]), status(running.home)["problems"]
    new = _pids(running)
    assert os.getpriority(os.PRIO_PROCESS, new["ray.dashboard"]) == 19
    alone = ("ray.gcs_server", "ray.raylet", "ray.dashboard_agent", "keeper")
    assert {name: new[name] for name in alone} == {name: old[name] for name in alone}
    url = processes.read_json(running.paths.ray_state)["dashboard_url"]
    token = running.paths.ray_token.read_text().strip()

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/api/version", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        return False

    assert processes.wait_until(answers, _HEALED_S, step_s=0.2)


def test_the_port_of_the_api_is_nobody_elses_while_its_server_is_away(running: Settings) -> None:
    old = _pids(running)["api"]
    os.kill(old, signal.SIGKILL)
    assert processes.wait_until(lambda: processes.identify(old) is None, 10.0)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((running.http_host, running.http_port))
    assert _heals(running, "keeper", old), status(running.home)["problems"]


def test_a_keeper_that_hangs_is_replaced(running: Settings) -> None:
    old = _pids(running)["keeper"]
    os.kill(old, signal.SIGSTOP)
    assert _heals(running, "keeper", old)


def test_up_gives_what_failed_before_another_try(running: Settings) -> None:
    broken = running.paths.home / "broken"
    broken.touch()
    os.kill(_pids(running)["keeper"], signal.SIGKILL)

    def gave_up() -> bool:
        return bool(processes.read_json(running.paths.processes)["failures"].get("keeper", 0) >= 5)

    assert processes.wait_until(gave_up, _HEALED_S, step_s=0.1)
    with pytest.raises(LaunchError, match="AssertionError"):
        up(running, detach=True)
    broken.unlink()
    up(running, detach=True)
    assert status(running.home)["healthy"]


def test_a_home_that_cannot_be_written_ends_no_supervisor(running: Settings) -> None:
    """As with a disk that is full: a directory in the way of its file is what root cannot write over either."""
    old = _pids(running)
    obstacle = running.paths.processes.with_name(f".{running.paths.processes.name}.{old['supervisor']}")
    obstacle.mkdir()
    os.kill(old["keeper"], signal.SIGKILL)
    gone = processes.wait_until(lambda: processes.identify(old["keeper"]) is None, _HEALED_S, step_s=0.1)
    time.sleep(3.0)  # some ticks, each of which finds it in the way
    assert gone
    assert processes.identify(old["supervisor"]) is not None
    obstacle.rmdir()
    assert _heals(running, "keeper", old["keeper"])
    assert _pids(running)["supervisor"] == old["supervisor"]


def test_a_new_supervisor_adopts_what_runs(running: Settings) -> None:
    before = _pids(running)
    os.kill(before["supervisor"], signal.SIGKILL)
    assert processes.wait_until(lambda: not status(running.home)["healthy"], 10)
    up(running, detach=True)
    after = _pids(running)
    assert after.pop("supervisor") != before.pop("supervisor")
    assert after == before


def test_a_postgres_that_nobody_told_of_is_adopted_and_told_of(running: Settings) -> None:
    """The supervisor before ended between its start and the file with the URL."""
    before = _pids(running)
    url = running.paths.database_url.read_text()
    os.kill(before["supervisor"], signal.SIGKILL)
    running.paths.database_url.unlink()
    up(running, detach=True)
    assert running.paths.database_url.read_text() == url
    assert _pids(running)["postgres"] == before["postgres"]


def test_up_waits_for_the_supervisor_of_one_that_was_killed(running: Settings) -> None:
    """Even before that supervisor has written what it starts."""
    down(running.home)
    first = subprocess.Popen([sys.executable, "-c", _UP, str(running.home), str(running.http_port)])
    lock = FileLock(running.paths.supervisor_lock)
    assert processes.wait_until(lambda: lock.holder() is not None, 30, step_s=0.005)
    first.kill()
    first.wait()
    supervisor = lock.holder()
    assert supervisor is not None
    up(running, detach=True)
    assert _pids(running)["supervisor"] == supervisor.pid


def test_after_everything_was_killed_up_starts_again(running: Settings) -> None:
    before = _pids(running)
    for pid in before.values():
        with contextlib.suppress(ProcessLookupError):  # some end with those that were killed before
            os.kill(pid, signal.SIGKILL)
    result = up(running, detach=True)
    assert not result.already_running
    assert not set(_pids(running).values()) & set(before.values())


@pytest.mark.parametrize("supervisor_dead", [False, True])
def test_down_leaves_nothing_and_is_idempotent(running: Settings, supervisor_dead: bool) -> None:
    before = _pids(running)
    if supervisor_dead:
        os.kill(before["supervisor"], signal.SIGKILL)
    ended = down(running.home).ended
    assert {"keeper", "postgres", "ray.raylet"} <= set(ended)
    assert belongings(running).find() == []
    assert [pid for pid in before.values() if processes.identify(pid)] == []
    assert down(running.home).ended == []
    assert status(running.home)["processes"] == []


def test_a_start_that_fails_says_why_and_leaves_nothing(settings: Settings) -> None:
    down(settings.home)
    broken = settings.model_copy(update={"migrate_module": "failing_migrate"})
    with pytest.raises(LaunchError, match="no such database"):
        up(broken, detach=True)
    assert belongings(settings).find() == []


def test_what_cannot_be_joined_is_told_before_anything_starts(tmp_path: Path) -> None:
    port = free_port(exclude=set())
    settings = Settings.load(
        home=tmp_path / "home",
        http_port=free_port(exclude=set()),
        ray_address=f"127.0.0.1:{port}",
        database_url=f"postgresql://ada:tr0ub4dor@127.0.0.1:{port}/airavata",
    )
    with pytest.raises(LaunchError) as caught:
        up(settings, detach=True)
    ray, database = str(caught.value).splitlines()
    assert ray.startswith(f"ray_address: 127.0.0.1:{port} does not answer")
    assert database.startswith("database: ")
    assert "tr0ub4dor" not in database
    assert belongings(settings).find() == []
    found = {check.name: check for check in doctor(settings.home)}
    assert found["settings"].ok


def test_a_port_in_use_is_refused_before_anything_starts(settings: Settings) -> None:
    down(settings.home)
    with (
        socket.create_server((settings.http_host, settings.http_port)),
        pytest.raises(LaunchError, match=f"{settings.http_port}.*--http-port"),
    ):
        up(settings, detach=True)
    assert belongings(settings).find() == []
