"""The launcher's parts that need no server: back-off, logs, secrets, the watch on the keeper, names, status."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from airavata_scheduler.launcher import commands, processes, ray_head
from airavata_scheduler.launcher.backoff import Backoff
from airavata_scheduler.launcher.environment import child_environment
from airavata_scheduler.launcher.keeper_process import KeeperProcess
from airavata_scheduler.launcher.logs import open_log, structured_logger, tail
from airavata_scheduler.launcher.postgres import EmbeddedPostgres
from airavata_scheduler.launcher.ray_head import RayHead
from airavata_scheduler.launcher.secrets import ensure_secrets, loose_secrets, read_secret
from airavata_scheduler.launcher.status import status
from airavata_scheduler.settings import Paths, Settings, SettingsError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings.load(home=tmp_path / "home", database_url="postgresql://u:p@h/d")
    made.paths.create()
    return made


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("written_by_it", [False, True])
@pytest.mark.parametrize("fails_again", [False, True])
def test_only_what_a_supervisor_fails_at_while_an_up_waits_is_held_against_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, written_by_it: bool, fails_again: bool
) -> None:
    settings.save_run()
    own = processes.identify_self()
    entry = {"name": "supervisor", **own.as_json(), "pid": own.pid if written_by_it else 1}
    failures = iter([9, 9, 10 if fails_again else 9, 11 if fails_again else 0])

    def look(_home: Path) -> dict[str, object]:
        count = next(failures)
        processes.write_json(settings.paths.processes, {"processes": [entry], "failures": {"postgres": count}})
        return {"healthy": count == 0, "problems": ["no room on the disk"]}

    look(settings.home)
    monkeypatch.setattr(commands, "status", look)
    if fails_again and written_by_it:
        with pytest.raises(commands.LaunchError, match="no room on the disk"):
            commands._wait(settings.home, own, time.monotonic(), lambda _stage: None)
    elif not fails_again:
        assert commands._wait(settings.home, own, time.monotonic(), lambda _stage: None)
    else:  # of the one before: looked at until there is nothing more to look at
        with pytest.raises(StopIteration):
            commands._wait(settings.home, own, time.monotonic(), lambda _stage: None)


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_death_of_the_supervisor_alone_ends_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    class Belongings:
        def find(self) -> list[processes.ProcessId]:
            return [processes.identify_self()] if goes_on else []

    def refuse(_home: Path) -> None:
        raise AssertionError("nobody asked for the end")

    monkeypatch.setattr(commands, "belongings", lambda _settings: Belongings())
    monkeypatch.setattr(commands, "down", refuse)
    gone = processes.ProcessId(pid=1, start_ticks=0, boot="another")
    if goes_on:
        with pytest.raises(commands.LaunchError, match="takes it over"):
            commands._stay(settings, gone)
    else:
        commands._stay(settings, gone)


def test_an_interrupt_ends_the_platform(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Path] = []
    monkeypatch.setattr(commands, "down", ended.append)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    commands._stay(settings, processes.identify_self())
    assert ended == [settings.home]


def test_backoff_starts_at_once_then_doubles_to_a_limit_and_forgets() -> None:
    clock = Clock()
    wait = Backoff(clock)
    assert wait.ready()
    delays = []
    for _ in range(9):
        wait.failed()
        before = clock.now_s
        while not wait.ready():
            clock.now_s += 0.25
        delays.append(clock.now_s - before)
    assert delays == [0, 0.25, 0.5, 1, 2, 4, 8, 15, 15]
    assert wait.failures == 9
    clock.now_s += 61
    wait.failed()
    assert wait.failures == 1


def test_a_log_record_is_one_line_of_json_with_its_fields(tmp_path: Path) -> None:
    logger = structured_logger("airavata.test", tmp_path / "x.log", "info")
    try:
        logger.info("two\nlines", extra={"pid": 7})
        logger.debug("not written")
    finally:
        for handler in logger.handlers:
            handler.close()
        logging.getLogger("airavata.test").handlers = []
    (line,) = (tmp_path / "x.log").read_text().splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["pid"]) == ("two\nlines", "info", 7)


def test_a_large_output_file_is_rotated_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    with path.open("wb") as file:
        file.truncate(6_000_000)
    with open_log(path) as log:
        log.write(b"fresh\n")
    assert path.read_bytes() == b"fresh\n"
    assert (tmp_path / "out.log.1").stat().st_size == 6_000_000
    assert tail(path) == "fresh"
    assert tail(tmp_path / "none") == "(no log was written)"


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "home")
    ensure_secrets(paths)
    first = {path: path.read_text() for path in paths.secrets.iterdir()}
    assert set(first) == {paths.ray_token, paths.database_password, paths.jwt_key, paths.vault_key, paths.admin}
    assert len(set(first.values())) == len(first)
    assert loose_secrets(paths) == []
    assert paths.secrets.stat().st_mode & 0o077 == 0
    paths.jwt_key.chmod(0o644)
    assert loose_secrets(paths) == [paths.jwt_key]
    ensure_secrets(paths)
    assert loose_secrets(paths) == []
    assert {path: path.read_text() for path in paths.secrets.iterdir()} == first


def test_a_missing_or_empty_secret_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name in ("none", "empty"):
        with pytest.raises(SettingsError, match="airavata up"):
            read_secret(tmp_path / name)


def test_a_keeper_that_stops_writing_hangs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("airavata_scheduler.launcher.keeper_process.time.monotonic", clock)
    keeper = KeeperProcess(settings)
    assert keeper.adopt(processes.identify_self())
    clock.now_s += 59
    assert not keeper.hangs(), "the first report may take a minute"
    settings.paths.cluster.write_text("{}")
    assert not keeper.hangs()
    clock.now_s += 19
    assert not keeper.hangs()
    os.utime(settings.paths.cluster, ns=(1, 1))
    assert not keeper.hangs(), "also a clock that jumps back leaves a change"
    clock.now_s += 21
    assert keeper.hangs()


def test_a_dead_keeper_is_not_adopted(settings: Settings) -> None:
    keeper = KeeperProcess(settings)
    assert not keeper.adopt(None)
    assert not keeper.adopt(processes.ProcessId(os.getpid(), 0, processes.boot_id()))
    assert not keeper.alive()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/r", "ray.gcs_server"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/r/dashboard/agent.py", "ray.raylet"),
        ("ray::DashboardAgent", "ray.dashboard_agent"),
        ("/p/python -u /x/ray/dashboard/agent.py --node", "ray.dashboard_agent"),
        ("ray::RuntimeEnvAgent", "ray.runtime_env_agent"),
        ("ray-dashboard-JobHead-3 (/p/python -c", "ray.dashboard.JobHead"),
        ("python -c from multiprocessing.forkserver import main; main(1)", "ray.dashboard.forkserver"),
        ("ray::IDLE", ""),
        ("vim /x/raylet.py", ""),
    ],
)
def test_ray_processes_have_stable_names(monkeypatch: pytest.MonkeyPatch, command: str, name: str) -> None:
    monkeypatch.setattr(processes, "command_of", lambda _pid: command.split(" "))
    assert ray_head.process_name(1) == name


def test_a_long_home_gets_short_socket_paths(tmp_path: Path) -> None:
    near = Settings.load(home="/h")
    far = Settings.load(home=tmp_path / ("long" * 30))
    assert RayHead(near).temp_dir == Path("/h/run/ray")
    assert RayHead(far).temp_dir == far.paths.short / "ray"
    far.paths.create()
    ensure_secrets(far.paths)
    assert str(far.home) not in EmbeddedPostgres(far.paths).dsn
    far.paths.short.rmdir()


def test_children_get_the_mark_and_the_token_and_nothing_misleading(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = child_environment(settings)
    assert environment[processes.MARK_VARIABLE] == settings.paths.mark
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(settings.paths.ray_token)
    assert not {"RAY_ADDRESS", "DATABASE_URL", "PYTHONDONTWRITEBYTECODE"} & environment.keys()
    assert child_environment(settings, "here:2")["RAY_ADDRESS"] == "here:2"


def test_status_of_nothing_is_an_answer(tmp_path: Path) -> None:
    answer = status(tmp_path / "none")
    assert answer.keys() == {"healthy", "version", "home", "url", "processes", "workers", "problems"}
    assert (answer["healthy"], answer["processes"]) == (False, [])
    assert not (tmp_path / "none").exists()
