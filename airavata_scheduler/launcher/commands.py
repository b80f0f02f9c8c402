"""`up` and `down`, as functions: the command line adds only words and colours."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.doctor import Check, doctor, joined
from airavata_scheduler.launcher.environment import child_environment
from airavata_scheduler.launcher.logs import open_log, tail
from airavata_scheduler.launcher.ports import port_is_free
from airavata_scheduler.launcher.postgres import EmbeddedPostgres
from airavata_scheduler.launcher.processes import FileLock, ProcessId
from airavata_scheduler.launcher.ray_head import belongings, process_name
from airavata_scheduler.launcher.secrets import ensure_secrets
from airavata_scheduler.launcher.status import status
from airavata_scheduler.settings import Paths, Settings, SettingsError
from airavata_scheduler.worker.abandoned_groups import remove_groups
from airavata_scheduler.worker.leftovers import workers_of

__all__ = ["Check", "DownResult", "LaunchError", "Stage", "UpResult", "doctor", "down", "status", "up"]

_SUPERVISOR_STOP_S = 24.0
_ALL_KILLED_S = 5.0
_COMMAND_LOCK_S = 60.0
_GIVE_UP_FAILURES = 5
_LOG_NAME = "supervisor.out"


class LaunchError(RuntimeError):
    """The platform cannot be started; the message names the cause, the end of the log, and where the log is."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Progress of `up`: what is being waited for, `elapsed_s` seconds after its start."""

    text: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class UpResult:
    """A healthy platform, and where to look; `took_s` is how long `up` waited."""

    url: str
    home: Path
    dashboard_url: str | None
    admin_credentials_file: Path
    already_running: bool
    took_s: float


@dataclass(frozen=True, slots=True)
class DownResult:
    """Names of the processes that were ended, `role` or Ray's name where known."""

    ended: list[str]


def up(settings: Settings, *, detach: bool, progress: Callable[[Stage], None] = lambda _stage: None) -> UpResult:
    """Starts the platform of `settings.home`, or finds it running, and waits until it is healthy.

    Not detached it returns only after Ctrl-C (or TERM), having ended everything, or after a `down` elsewhere. Raises
    `LaunchError`, and `SettingsError`; what a failed first start has begun is ended again.
    """
    begun_s = time.monotonic()
    settings.paths.create()
    ensure_secrets(settings.paths)
    lock = FileLock(settings.paths.command_lock)
    if not lock.acquire(_COMMAND_LOCK_S + settings.start_limit_s):
        raise LaunchError(f"another `airavata up` or `down` works on {settings.home}: wait for it to end")
    try:
        already = status(settings.home)["healthy"]
        found = _supervisor(settings.paths)
        if found is None or not _wait(settings.home, found, begun_s, progress):
            # Also when it was about to die as we found it.
            found = _start(settings, begun_s, progress)
        active = Settings.from_run(settings.home)
    finally:
        lock.release()
    result = _result(active, already, time.monotonic() - begun_s)
    if not detach:
        progress(Stage(f"running at {result.url}; Ctrl-C stops it", result.took_s))
        _stay(active, found)
    return result


def down(home: Path | str) -> DownResult:
    """Ends every process that `up` started for this home, in less than 30 s; without effect when nothing runs."""
    paths = Paths(Path(home).expanduser().resolve())
    if not paths.run.is_dir():
        return DownResult([])
    lock = FileLock(paths.command_lock)
    # An `up` that still waits is not waited for: it sees its supervisor end, and says so.
    held = lock.acquire(0.0)
    try:
        return DownResult(_end_everything(paths))
    finally:
        if held:
            lock.release()


def _start(settings: Settings, begun_s: float, progress: Callable[[Stage], None]) -> ProcessId:
    """A new supervisor, and all that it starts; nothing stays if that fails."""
    _prepare(settings)
    try:
        supervisor = _spawn(settings)
        while not _wait(settings.home, supervisor, begun_s, progress):
            # Where an `up` was killed in the moment that it started one, that may have been the first to take the lock.
            first = _supervisor(settings.paths)
            if first is None or first == supervisor:
                raise LaunchError(_with_log(settings.paths, "the supervisor ended"))
            supervisor = first
    except (LaunchError, KeyboardInterrupt):
        _end_everything(settings.paths)
        raise
    return supervisor


def _prepare(settings: Settings) -> None:
    """Before a new supervisor: what still runs is adopted if it was started with these settings, and ended if not."""
    try:
        same = Settings.from_run(settings.home) == settings
    except SettingsError:
        same = False
    if not same:
        _end_everything(settings.paths)
    strays = belongings(settings).find()
    if not strays and not port_is_free(settings.http_port, settings.http_host):
        raise LaunchError(
            f"http_port {settings.http_port} on {settings.http_host} is in use by another program: end it, or "
            "choose another port with --http-port"
        )
    if problems := joined(settings):
        raise LaunchError("\n".join(problems))
    settings.save_run()


def _spawn(settings: Settings) -> ProcessId:
    with open_log(settings.paths.log / _LOG_NAME) as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "airavata_scheduler.launcher.supervisor", "--home", str(settings.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=settings.home,
            env=child_environment(settings),
            start_new_session=True,
        )
    child.returncode = 0  # it outlives us; nobody waits for it through Popen
    process = processes.identify(child.pid)
    if process is None:
        raise LaunchError(_with_log(settings.paths, "the supervisor ended at once"))
    return process


def _wait(home: Path, supervisor: ProcessId, begun_s: float, progress: Callable[[Stage], None]) -> bool:
    """Until the platform is healthy (True) or its supervisor gone (False); `LaunchError` when it takes too long."""
    settings, last = Settings.from_run(home), ""
    known = _failures(processes.read_json(settings.paths.processes), supervisor)
    while True:
        now = status(settings.home)
        if now["healthy"]:
            return True
        elapsed_s = time.monotonic() - begun_s
        state = processes.read_json(settings.paths.processes)
        text = _stage_text(state, processes.read_json(settings.paths.cluster), supervisor)
        if text != last:
            progress(Stage(text, elapsed_s))
            last = text
        if not supervisor.alive():
            return False
        # One that kept failing before this `up` gets another try: what was in its way may have been removed.
        failures = _failures(state, supervisor)
        hopeless = any(count >= _GIVE_UP_FAILURES and count > known.get(name, 0) for name, count in failures.items())
        if elapsed_s > settings.start_limit_s or hopeless:
            problems = "\n".join(now["problems"])
            raise LaunchError(_with_log(settings.paths, f"not healthy after {elapsed_s:.0f} s:\n{problems}"))
        time.sleep(0.2)


def _failures(state: Mapping[str, Any], supervisor: ProcessId) -> Mapping[str, int]:
    """How often in a row each thing failed, by name; what the file says may still be of the supervisor before."""
    failures: Mapping[str, int] = state.get("failures", {}) if _is_of(state, supervisor) else {}
    return failures


def _is_of(state: Mapping[str, Any], supervisor: ProcessId) -> bool:
    """Whether that supervisor has written this."""
    return any(
        entry.get("name") == "supervisor" and entry.get("pid") == supervisor.pid for entry in state.get("processes", [])
    )


def _stage_text(state: dict[str, Any], cluster: dict[str, Any], supervisor: ProcessId) -> str:
    """What is being waited for, in the order in which things start."""
    names = {str(entry.get("name")) for entry in state.get("processes", [])}
    if not _is_of(state, supervisor):
        return "starting PostgreSQL and Ray" if state.get("own_postgres", True) else "starting Ray"
    if state.get("problems"):
        return str(next(iter(state["problems"].values()))).splitlines()[0]
    if not state.get("migrated"):
        return "preparing the database"
    if "keeper" not in names:
        return "starting Ray"
    return str(cluster.get("stage") or "starting the services")


def _with_log(paths: Paths, problem: str) -> str:
    logs = [tail(paths.log / name, lines=6) for name in (_LOG_NAME, "supervisor.log") if (paths.log / name).exists()]
    return "\n".join([problem, *logs, f"All logs are in {paths.log}; `airavata doctor` checks this machine."])


def _result(settings: Settings, already: bool, took_s: float) -> UpResult:
    paths = settings.paths
    dashboard_url = processes.read_json(paths.ray_state).get("dashboard_url") if settings.dashboard else None
    return UpResult(settings.url, settings.home, dashboard_url, paths.admin, already, took_s)


def _supervisor(paths: Paths) -> ProcessId | None:
    """The live supervisor of this home: whoever holds its lock, even before it has written its first file."""
    return FileLock(paths.supervisor_lock).holder()


def _stay(settings: Settings, supervisor: ProcessId) -> None:
    """Until Ctrl-C (or TERM), which ends the platform, or until it was ended elsewhere.

    The death of the supervisor alone ends nothing: what it kept goes on, and `LaunchError` says so.
    """
    if _until_interrupted(supervisor):
        down(settings.home)
        return
    lock = FileLock(settings.paths.command_lock)
    if lock.acquire(_COMMAND_LOCK_S):  # a `down` that is at work is waited for
        lock.release()
    if belongings(settings).find():
        raise LaunchError(
            f"the supervisor (pid {supervisor.pid}) is gone; what it started goes on: `airavata up` takes it over, "
            "`airavata down` ends it"
        )


def _until_interrupted(supervisor: ProcessId) -> bool:
    """Waits for Ctrl-C, TERM or the end of the supervisor; whether it still lives."""
    stopped: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _f: stopped.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while not stopped and supervisor.alive():
            time.sleep(0.5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return supervisor.alive()


def _end_everything(paths: Paths) -> list[str]:
    """The supervisor ends the rest in order; what it leaves, or all of it when it is dead, is ended here."""
    try:
        settings = Settings.from_run(paths.home)
    except SettingsError:
        settings = Settings.load(home=paths.home)
    find = belongings(settings).find
    names = {process.pid: _name(paths, process.pid) for process in find()}
    supervisor = _supervisor(paths)
    if supervisor is not None:
        supervisor.kill(signal.SIGCONT)
        supervisor.kill(signal.SIGTERM)
        processes.wait_until(lambda: not supervisor.alive(), _SUPERVISOR_STOP_S)
        supervisor.kill()
    postgres = EmbeddedPostgres(paths)
    if postgres.process() is not None and supervisor is None:
        data = str(postgres.data_dir)
        processes.end_all(lambda: [p for p in find() if not processes.works_in(p.pid, "postgres", data)], _ALL_KILLED_S)
        postgres.stop(_ALL_KILLED_S)
    left = processes.end_all(find, _ALL_KILLED_S)
    if left:
        raise LaunchError(
            f"processes do not end even after KILL: {[process.pid for process in left]}; they wait for the kernel"
        )
    remove_groups(workers_of(settings.scratch_dir))
    for path in (paths.processes, paths.cluster, paths.ray_state):
        path.unlink(missing_ok=True)
    return sorted(set(names.values()))


def _name(paths: Paths, pid: int) -> str:
    """The name that `status` uses, else what the process calls itself."""
    own = processes.read_json(paths.processes).get("processes", []) + processes.read_json(paths.cluster).get(
        "processes", []
    )
    for entry in own:
        if entry.get("pid") == pid:
            return str(entry.get("name"))
    title = (processes.command_of(pid) or ["?"])[0].split(" ")[0]
    return process_name(pid) or Path(title).name.rstrip(":")
