"""Is this machine fit, and is this home sound? Each check says what it found and, when that is bad, what to do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.ports import port_is_free
from airavata_scheduler.launcher.postgres import EmbeddedPostgres, PostgresError, find_binaries
from airavata_scheduler.launcher.secrets import loose_secrets
from airavata_scheduler.settings import Paths, Settings, SettingsError

_PYTHON = ((3, 11), (3, 14))
_RAY_FLOOR = (2, 56)
_POSTGRES_FLOOR = 150_000
_DISK_BYTES = 2_000_000_000
_FILES = 8192
_CLOCK_S = 2.0
_CONNECT_S = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `ok` of None: it could not be told, or only costs comfort. `remedy` is empty when ok."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def doctor(home: Path | str) -> list[Check]:
    """All checks for one home, running or not. Never raises: a check that fails itself is a finding."""
    try:
        root = Path(home).expanduser().resolve()
        settings = Settings.from_run(root) if Paths(root).run_settings.exists() else Settings.load(home=root)
    except SettingsError as error:
        remedy = "correct it, then run `airavata doctor` again"
        return [Check("settings", False, problem, remedy) for problem in error.problems]
    checks: list[Callable[[Settings], list[Check]]] = [
        _versions,
        _ports,
        _secrets,
        _ray_address,
        _database,
        _disk,
        _shared_memory,
        _namespaces,
        _cgroup,
        _limits,
    ]
    found = [Check("settings", True, f"valid, home {settings.home}")]
    for check in checks:
        try:
            found += check(settings)
        except Exception as error:  # noqa: BLE001  a broken check must not hide the others' findings
            found.append(
                Check(check.__name__.strip("_"), None, f"could not be checked: {error}", "report this as a bug")
            )
    return found


def _versions(_: Settings) -> list[Check]:
    low, high = _PYTHON
    python = Check(
        "python", low <= sys.version_info[:2] < high, sys.version.split()[0], "use Python 3.11, 3.12 or 3.13"
    )
    return [_without_remedy(python), _ray_version(), _postgres_version()]


def _ray_version() -> Check:
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return Check("ray", False, "not installed", "install airavata-scheduler with its dependencies")
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return _without_remedy(
        Check("ray", numbers >= _RAY_FLOOR, version, "install Ray 2.56 or newer: older ones have known holes")
    )


def _postgres_version() -> Check:
    try:
        command = [str(find_binaries() / "postgres"), "--version"]
    except PostgresError as error:
        return Check("embedded postgresql", None, "not installed", str(error))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = (done.stdout or done.stderr).strip()
    return _without_remedy(
        Check("embedded postgresql", done.returncode == 0, found, "install the wheel for this machine's system")
    )


def _ports(settings: Settings) -> list[Check]:
    """Our own ports are ours, or free."""
    state = processes.read_json(settings.paths.processes)
    running = any(
        process is not None and process.alive()
        for process in (processes.ProcessId.from_json(entry) for entry in state.get("processes", []))
    )
    wanted = {"http_port": settings.http_port, "ray_port": settings.ray_port, "dashboard_port": settings.dashboard_port}
    found = []
    for name, port in wanted.items():
        if port is None:
            continue
        if port_is_free(port):
            found.append(Check(name, True, f"{port} is free"))
        else:
            remedy = "" if running else f"end the program that uses it, or set another {name}"
            found.append(
                Check(name, running, f"{port} is in use" + (" by the running platform" if running else ""), remedy)
            )
    return found


def _secrets(settings: Settings) -> list[Check]:
    paths = settings.paths
    if not paths.ray_token.exists():
        return [Check("secrets", None, "not made yet", "the first `airavata up` makes them")]
    loose = loose_secrets(paths)
    if loose:
        names = ", ".join(path.name for path in loose)
        return [Check("secrets", False, f"readable by others: {names}", f"chmod 600 {paths.secrets}/*")]
    return [Check("secrets", True, f"{len(list(paths.secrets.iterdir()))} files of mode 0600, Ray's token among them")]


def joined(settings: Settings) -> list[str]:
    """What `up` is to join and cannot, in sentences: a database or a Ray cluster of somebody else."""
    checks = _ray_address(settings) + (_database(settings) if settings.database_url is not None else [])
    wanted = {"ray_address", "database"}
    return [f"{c.name}: {c.found}; {c.remedy}" for c in checks if c.name in wanted and c.ok is False]


def _ray_address(settings: Settings) -> list[Check]:
    if settings.ray_address is None:
        return []
    host, _, port = settings.ray_address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            return [Check("ray_address", True, f"{settings.ray_address} answers")]
    except OSError as error:
        remedy = "check the address (`ray start --head` prints it), that the head runs, and the network to it"
        return [Check("ray_address", False, f"{settings.ray_address} does not answer ({error})", remedy)]


def _database(settings: Settings) -> list[Check]:
    import psycopg

    if settings.database_url is None:
        server = EmbeddedPostgres(settings.paths)
        if server.process() is None:
            return [Check("database", None, "the embedded PostgreSQL is not running", "start it with `airavata up`")]
        url = server.dsn
    else:
        url = settings.database_url.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_S, autocommit=True) as connection:
            before_s = time.time()
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            offset_s = abs(float(row[0]) - (before_s + time.time()) / 2) if row else 0.0
            try:
                schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            except psycopg.errors.UndefinedTable:
                schema = None
            return [_server(connection.info.server_version), _schema(schema), _clock(offset_s)]
    except psycopg.Error as error:
        # The first line only: libpq never puts the password there.
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [Check("database", False, found, "check DATABASE_URL, the server and the network to it")]


def _server(version: int) -> Check:
    found = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    return _without_remedy(Check("database", version >= _POSTGRES_FLOOR, found, "use PostgreSQL 15 or newer"))


def _schema(row: tuple[object, ...] | None) -> Check:
    if row is None:
        return Check("schema", None, "no schema yet", "`airavata up` makes it")
    return Check("schema", True, f"version {row[0]}")


def _clock(offset_s: float) -> Check:
    found = f"{offset_s:.3f} s from the database's"
    remedy = "set this machine's clock (NTP): leases use the database's, but times shown would mislead"
    return _without_remedy(Check("clock", offset_s < _CLOCK_S, found, remedy))


def _disk(settings: Settings) -> list[Check]:
    found = []
    for name, path in (
        ("disk, home", settings.home),
        ("disk, storage", settings.storage_dir),
        ("disk, scratch", settings.scratch_dir),
    ):
        place = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        remedy = f"make room below {place}, or choose another place"
        found.append(_without_remedy(Check(name, free >= _DISK_BYTES, f"{free / 1e9:.1f} GB free at {place}", remedy)))
    return found


def _shared_memory(settings: Settings) -> list[Check]:
    place = Path("/dev/shm")  # noqa: S108  (not a file of ours: what the kernel offers there)
    if not place.is_dir():
        return [
            Check(
                "shared memory",
                None,
                "no /dev/shm",
                "mount one; Ray falls back to files in its directory, which is slow",
            )
        ]
    free = shutil.disk_usage(place).free
    wanted = settings.object_store_memory_bytes
    remedy = "enlarge /dev/shm (containers: --shm-size), or lower object_store_memory_bytes"
    return [
        _without_remedy(
            Check("shared memory", free >= wanted, f"{free / 1e6:.0f} MB free, {wanted / 1e6:.0f} wanted", remedy)
        )
    ]


def _namespaces(_: Settings) -> list[Check]:
    """Without them a task that hides its children is found later, and root's PostgreSQL needs a user of its own."""
    if shutil.which("unshare") is None:
        return [Check("namespaces", None, "no `unshare` command", "install util-linux")]
    kinds = {
        "user namespaces": ["--user", "--map-root-user"],
        "pid namespaces": ["--user", "--map-root-user", "--pid", "--fork"],
    }
    found = []
    for name, options in kinds.items():
        done = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
        permitted = done.returncode == 0
        remedy = "" if permitted else "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
        found.append(
            Check(name, True if permitted else None, "permitted" if permitted else done.stderr.strip(), remedy)
        )
    return found


def _cgroup(_: Settings) -> list[Check]:
    root = Path("/sys/fs/cgroup")
    version = 2 if (root / "cgroup.controllers").exists() else 1
    places = [root] if version == 2 else [root / "memory", root / "cpu"]
    own = _own_cgroup() if version == 2 else None
    if own is not None:
        places = [root / own]
    writable = all(place.is_dir() and os.access(place, os.W_OK) for place in places)
    remedy = (
        ""
        if writable
        else "limits fall back to rlimits; run in a delegated cgroup (systemd: Delegate=yes) for exact ones"
    )
    return [
        Check("cgroup", True if writable else None, f"v{version}, {'writable' if writable else 'not writable'}", remedy)
    ]


def _own_cgroup() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return line[3:].lstrip("/")
    return None


def _limits(_: Settings) -> list[Check]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = hard == resource.RLIM_INFINITY or hard >= _FILES
    found = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return [
        _without_remedy(Check("open files", enough, found, f"raise the hard limit to {_FILES} or more (ulimit -Hn)"))
    ]


def _without_remedy(check: Check) -> Check:
    return Check(check.name, True, check.found) if check.ok else check
