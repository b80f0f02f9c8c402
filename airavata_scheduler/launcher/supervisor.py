"""The supervisor: starts PostgreSQL, the Ray head and the keeper of one home, and starts again whatever dies.

    python -m airavata_scheduler.launcher.supervisor --home DIR

It holds nothing that matters. Killed, it leaves everything running, and the next one adopts what runs. TERM ends all,
in order. One thread, one loop: it sleeps until a watched process ends, a signal comes, or half a second is over.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from airavata_scheduler import __version__
from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.backoff import Backoff
from airavata_scheduler.launcher.environment import child_environment
from airavata_scheduler.launcher.keeper_process import KeeperProcess
from airavata_scheduler.launcher.logs import open_log, structured_logger, tail
from airavata_scheduler.launcher.ports import keep_port
from airavata_scheduler.launcher.postgres import EmbeddedPostgres, PostgresError
from airavata_scheduler.launcher.processes import FileLock, ProcessId
from airavata_scheduler.launcher.ray_head import RayHead, belongings
from airavata_scheduler.launcher.secrets import ensure_secrets
from airavata_scheduler.settings import Settings, SettingsError

_TICK_S = 0.5
_QUIET_TICK_S = 2.0  # while everything runs: the end of a process wakes us up anyway
_RAY_START_S = 120.0
_MIGRATION_S = 300.0
_KEEPER_STOP_S = 20.0
_POSTGRES_STOP_S = 5.0
_LOCK_S = 5.0  # a supervisor that was just killed holds it for a moment
_WANTED_FILES = 65_536
_PR_SET_CHILD_SUBREAPER = 36
MIGRATE_LOG_NAME = "migrate.log"


class Supervisor:
    """All that one home runs on this machine. `run` returns when it was told to stop and everything has ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._paths = settings.paths
        self._log = structured_logger("airavata.supervisor", self._paths.log / "supervisor.log", settings.log_level)
        self._own_postgres = settings.database_url is None
        self._own_ray = settings.ray_address is None
        self._postgres = EmbeddedPostgres(self._paths)
        self._ray = RayHead(settings)
        self._keeper = KeeperProcess(settings)
        self._belongings = belongings(settings)
        self._starter: int | None = None
        self._starter_since_s = 0.0
        self._migrated = False
        self._stopping = False
        self._exits: dict[int, int] = {}
        self._problems: dict[str, str] = {}
        self._waits = {name: Backoff() for name in ("postgres", "migrate", "ray", "dashboard", "keeper")}
        self._postgres_process: ProcessId | None = None
        self._http_port: socket.socket | None = None
        self._written: object = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        self._listen_to_signals()
        self._adopt()
        self._log.info("started", extra={"pid": os.getpid(), "version": __version__})
        while not self._stopping:
            self._try_step()
            self._sleep()
        self._shut_down()

    def _try_step(self) -> None:
        """A disk without room must not end who looks after everything: the next tick goes on where this one stopped."""
        try:
            self._step()
        except OSError as error:
            if self._problems.get("home") != str(error):
                self._problems["home"] = str(error)
                self._log.error("cannot look after everything", extra={"problem": str(error)})
        else:
            self._problems.pop("home", None)

    def _step(self) -> None:
        """One look at everything, in the order of dependence."""
        awaited = {self._starter, self._keeper.process.pid if self._keeper.process else None}
        self._exits |= {pid: code for pid, code in processes.reap_children().items() if pid in awaited}
        self._keep_http_port()
        self._keep_ray()
        if self._keep_postgres() and self._keep_schema() and self._ray_ready():
            self._keep_keeper()
        self._publish()

    # -- what is kept
    # --------------------------------------------------------------------------------------------------------

    def _keep_http_port(self) -> None:
        """The API's port is nobody's while its proxy is started again, and each process of Ray takes a free one."""
        if self._http_port is not None or not self._own_ray:
            return
        host, port = self._settings.http_host, self._settings.http_port
        try:
            self._http_port = keep_port(port, host)
        except OSError as error:
            self._problems["http"] = f"http_port {port} on {host} cannot be had ({error.strerror}): end who uses it"
        else:
            self._problems.pop("http", None)

    def _keep_postgres(self) -> bool:
        if not self._own_postgres:
            return True
        if self._postgres_process is not None and self._postgres_process.alive():
            return True
        if self._postgres_process is not None:
            self._fail("postgres", f"PostgreSQL (pid {self._postgres_process.pid}) died")
            self._postgres_process = None
        if not self._waits["postgres"].ready():
            return False
        try:
            self._postgres.start()
        except (PostgresError, SettingsError, OSError, subprocess.SubprocessError) as error:
            self._fail("postgres", str(error))
            return False
        self._postgres_process = self._postgres.process()
        self._recover("postgres")
        return True

    def _keep_schema(self) -> bool:
        """Brings the schema up to date, once in the life of a supervisor: a newer version always starts a new one."""
        if self._migrated or not self._waits["migrate"].ready():
            return self._migrated
        path = self._paths.log / MIGRATE_LOG_NAME
        with open_log(path) as log:
            try:
                done = subprocess.run(
                    [sys.executable, "-m", self._settings.migrate_module, "--home", str(self._settings.home)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._settings.home,
                    env=child_environment(self._settings),
                    timeout=_MIGRATION_S,
                    check=False,
                )
                self._migrated = done.returncode == 0
            except subprocess.TimeoutExpired:
                self._migrated = False
        if self._migrated:
            self._recover("migrate")
        else:
            self._fail(
                "migrate", f"the database schema could not be brought up to date; the end of {path}:\n{tail(path)}"
            )
        return self._migrated

    def _keep_ray(self) -> None:
        if not self._own_ray:
            return
        if self._starter is not None:
            self._check_starter(self._starter)
        elif not self._ray.alive():
            if self._ray.core():
                dead = sorted(name for name, process in self._ray.core().items() if not process.alive())
                self._ray.forget()
                self._fail("ray", f"of the Ray head died: {', '.join(dead)}")
            if self._waits["ray"].ready():
                self._start_ray()
        elif self._ray.lacks_dashboard():
            self._restart_dashboard()

    def _start_ray(self) -> None:
        """A new head, after all that belonged to the old one has ended: its actors and tasks are of no use now."""
        self._keeper.stop(term_s=0)
        left = self._end_all_but_postgres()
        if left:
            self._fail("ray", f"processes of the old Ray head do not end: {[process.pid for process in left]}")
            return
        self._starter, self._starter_since_s = self._ray.spawn(), time.monotonic()
        self._log.info("ray starting", extra={"pid": self._starter})

    def _restart_dashboard(self) -> None:
        if "dashboard" not in self._problems:
            self._fail("dashboard", "Ray's dashboard died")
        if not self._waits["dashboard"].ready():
            return
        if self._ray.restart_dashboard():
            self._recover("dashboard")
        else:
            self._fail("dashboard", f"Ray's dashboard does not start; see {self._ray.log}")

    def _check_starter(self, starter: int) -> None:
        code = self._exits.pop(starter, None)
        if code is None:
            if time.monotonic() - self._starter_since_s > _RAY_START_S:
                self._starter = None
                self._fail("ray", f"`ray start` did not end within {_RAY_START_S:g} s; see {self._ray.log}")
            return
        self._starter = None
        if code == 0 and self._ray.record():
            self._recover("ray")
        else:
            self._fail("ray", f"`ray start` ended with {code}; the end of {self._ray.log}:\n{tail(self._ray.log)}")

    def _ray_ready(self) -> bool:
        return not self._own_ray or (self._starter is None and self._ray.alive())

    def _keep_keeper(self) -> None:
        if self._keeper.alive():
            if self._keeper.hangs():
                self._fail("keeper", "the keeper did not write cluster.json for too long and was killed")
                self._keeper.stop(term_s=0)
            elif self._settings.paths.cluster.exists():
                self._problems.pop("keeper", None)
            return
        if self._keeper.process is not None:
            code = self._exits.pop(self._keeper.process.pid, None)
            self._fail(
                "keeper", f"the keeper ended with {code}; the end of {self._keeper.log}:\n{tail(self._keeper.log)}"
            )
            self._keeper.process = None
        if self._waits["keeper"].ready():
            address = self._settings.ray_address or processes.read_json(self._paths.ray_state).get("address", "")
            process = self._keeper.start(str(address))
            self._log.info("keeper started", extra={"pid": process.pid if process else None})

    # -- bookkeeping
    # ---------------------------------------------------------------------------------------------------------

    def _fail(self, name: str, problem: str) -> None:
        self._waits[name].failed()
        self._problems[name] = problem
        self._log.error("failed", extra={"what": name, "problem": problem, "failures": self._waits[name].failures})

    def _recover(self, name: str) -> None:
        self._problems.pop(name, None)
        self._log.info("ready", extra={"what": name})

    def _adopt(self) -> None:
        state = processes.read_json(self._paths.processes)
        for entry in state.get("processes", []):
            if entry.get("name") == "keeper" and self._keeper.adopt(ProcessId.from_json(entry)):
                self._log.info("keeper adopted", extra={"pid": entry["pid"]})
        # A PostgreSQL that runs is adopted by its start, which also leaves its URL if nobody came to that before.
        if self._own_ray and not self._ray.alive():
            self._ray.forget()

    def _watched(self) -> dict[str, ProcessId]:
        """The processes whose end we want to hear of at once, by name."""
        watched = dict(self._ray.core()) if self._own_ray else {}
        if self._postgres_process is not None:
            watched["postgres"] = self._postgres_process
        if self._keeper.process is not None:
            watched["keeper"] = self._keeper.process
        return watched

    def _publish(self) -> None:
        """Writes ``processes.json`` when it changed: `status` and the next supervisor learn from it what runs."""
        roles = {"keeper": "supervisor", "postgres": "postgres"}
        entries = [{"name": "supervisor", "role": "supervisor", **processes.identify_self().as_json()}]
        entries += [
            {"name": name, "role": roles.get(name, "ray"), **process.as_json()}
            for name, process in self._watched().items()
        ]
        state = {
            "version": __version__,
            "url": self._settings.url,
            "own_postgres": self._own_postgres,
            "own_ray": self._own_ray,
            "migrated": self._migrated,
            "processes": entries,
            "problems": dict(self._problems),
            "failures": {name: wait.failures for name, wait in self._waits.items() if name in self._problems},
        }
        if state != self._written:
            processes.write_json(self._paths.processes, state)
            self._written = state

    def _sleep(self) -> None:
        """Until a watched process ends, a signal arrives, or the tick is over."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        descriptors = []
        pids = [process.pid for process in self._watched().values()] + ([self._starter] if self._starter else [])
        try:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    descriptors.append(os.pidfd_open(pid))
                    poll.register(descriptors[-1], select.POLLIN)
            poll.poll((_QUIET_TICK_S if self._keeper.alive() else _TICK_S) * 1000)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _listen_to_signals(self) -> None:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    # -- the end
    # -------------------------------------------------------------------------------------------------------------

    def _end_all_but_postgres(self) -> list[ProcessId]:
        def find() -> list[ProcessId]:
            data = str(self._postgres.data_dir)
            return [item for item in self._belongings.find() if not processes.works_in(item.pid, "postgres", data)]

        return processes.end_all(find, limit_s=8.0)

    def _shut_down(self) -> None:
        """Keeper, Ray, PostgreSQL: each may still need the next. Bounded: about 25 s at the very worst."""
        self._log.info("stopping")
        self._keeper.stop(_KEEPER_STOP_S)
        self._end_all_but_postgres()
        if self._own_postgres:
            self._postgres.stop(_POSTGRES_STOP_S)
        left = processes.end_all(self._belongings.find, limit_s=3.0)
        processes.reap_children()
        for path in (self._paths.processes, self._paths.cluster, self._paths.ray_state):
            path.unlink(missing_ok=True)
        self._log.info("stopped", extra={"left": [process.pid for process in left]})


def _become_root_of_the_tree() -> None:
    """Orphans of our descendants become our children, so that we collect them: not every process 1 does."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: list[str] | None = None) -> int:
    """Runs the supervisor of one home; 0 after an orderly stop, 1 when another one runs already."""
    parser = argparse.ArgumentParser(description="Keeps the processes of one Airavata home alive.")
    parser.add_argument("--home", type=Path, required=True)
    settings = Settings.from_run(parser.parse_args(arguments).home)
    lock = FileLock(settings.paths.supervisor_lock)
    if not lock.acquire(_LOCK_S):
        sys.stderr.write(f"another supervisor holds {lock.path}\n")
        return 1
    ensure_secrets(settings.paths)
    _become_root_of_the_tree()
    try:
        Supervisor(settings).run()
    finally:
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
