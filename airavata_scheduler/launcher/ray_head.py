"""The Ray head of one home: started with a token of ours, on ports that nobody else has, and found again after a crash.

`ray start` is used without ``--block``: it returns when the head is ready, and the supervisor then watches every
process itself, which also works for a head that an earlier supervisor started. The processes are one unit: when one
dies, all are ended and started anew; but nothing depends on the dashboard, the largest of them, which is started again
alone. Never `ray stop`, which would end every Ray on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.environment import child_environment
from airavata_scheduler.launcher.logs import open_log
from airavata_scheduler.launcher.ports import free_port, port_is_free
from airavata_scheduler.launcher.processes import ProcessId
from airavata_scheduler.settings import Settings

# What `ray start` itself does, minus what costs seconds or a process here: importing Serve's command line (with
# pandas: half of the time), the server for remote `ray://` drivers, which has no switch of its own, and waiting until
# the dashboard has written down its address, of which nothing is unknown, before anything else is started.
_RAY_START = """
import sys
sys.modules["ray.serve.scripts"] = None
from ray.experimental import internal_kv
from ray.scripts import scripts
scripts.get_ray_client_dependency_error = lambda: ImportError("not wanted")
dashboard = sys.argv.pop(1)
internal_kv._internal_kv_get = lambda *_, **__: dashboard.encode()
sys.argv[0] = "ray"
sys.exit(scripts.main())
"""
LOG_NAME = "ray_head.log"
_SESSION_PATH_BYTES = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_SOCKET_PATH_LIMIT_BYTES = 107
_KEPT_SESSIONS = 2
_NAMES = (
    (re.compile(r"/gcs_server( |$)"), "ray.gcs_server"),
    (re.compile(r"/raylet( |$)"), "ray.raylet"),
    (re.compile(r"/dashboard/dashboard\.py "), "ray.dashboard"),
    (re.compile(r"^ray::DashboardAgent|/dashboard/agent\.py "), "ray.dashboard_agent"),
    (re.compile(r"^ray::RuntimeEnvAgent|/runtime_env/agent/main\.py "), "ray.runtime_env_agent"),
)
_MODULE = re.compile(r"^ray-dashboard-(\w+?)-\d+")
_HELPER = re.compile(r"from multiprocessing\.(forkserver|resource_tracker) import")
CORE = frozenset(name for _, name in _NAMES)
_DASHBOARD = "ray.dashboard"
#: Of the dashboard and its dozen processes, which are for people who look, and must hold up nothing that runs.
_NICE = 19


class RayHead:
    """One head; its state is `<home>/run/ray.json`: address, dashboard URL, ports, processes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._paths = settings.paths
        self.log = self._paths.log / LOG_NAME

    @property
    def temp_dir(self) -> Path:
        """Ray's directory; its unix sockets limit how long the path may be."""
        near = self._paths.run / "ray"
        if len(os.fsencode(near)) + _SESSION_PATH_BYTES <= _SOCKET_PATH_LIMIT_BYTES:
            return near
        return self._paths.short / "ray"

    def spawn(self) -> int:
        """Begins to start a head; returns the pid of the starter, which ends with 0 when the head is ready."""
        if self.temp_dir.parent == self._paths.short:
            self._paths.create_short()
        self._remove_old_sessions()
        ports = self._choose_ports()
        processes.write_json(self._paths.ray_state, {"ports": ports})
        address = f"{self._settings.dashboard_host}:{ports['dashboard']}"
        return self._start([sys.executable, "-c", _RAY_START, address, *self._arguments(ports)])

    def record(self, limit_s: float = 10.0) -> bool:
        """Notes the processes of a head that is ready now; whether all of the core came up within `limit_s`."""
        found: dict[str, ProcessId] = {}

        def complete() -> bool:
            found.update(self._find_core())
            return found.keys() >= CORE

        processes.wait_until(complete, limit_s, step_s=0.2)
        state = processes.read_json(self._paths.ray_state)
        ports = state.get("ports", {})
        state["address"] = f"{self._node_ip(found)}:{ports.get('gcs')}"
        state["dashboard_url"] = f"http://{self._settings.dashboard_host}:{ports.get('dashboard')}"
        state["processes"] = [{"name": name, **process.as_json()} for name, process in sorted(found.items())]
        dashboard = found.get(_DASHBOARD)
        state["dashboard_command"] = processes.command_of(dashboard.pid) if dashboard else []
        if dashboard:
            _give_way(dashboard.pid)
        processes.write_json(self._paths.ray_state, state)
        return complete()

    def forget(self) -> None:
        """Drops what `record` noted but for the ports, which the next head uses again."""
        ports = processes.read_json(self._paths.ray_state).get("ports", {})
        processes.write_json(self._paths.ray_state, {"ports": ports})

    def core(self) -> dict[str, ProcessId]:
        """The processes that were recorded, dead or alive; empty before the head was ready."""
        return recorded_core(processes.read_json(self._paths.ray_state))

    def alive(self) -> bool:
        """Whether all runs that the cluster depends on."""
        core = self.core()
        return bool(core) and all(process.alive() for name, process in core.items() if name != _DASHBOARD)

    def lacks_dashboard(self) -> bool:
        """Whether it has died of a head that is alive."""
        dashboard = self.core().get(_DASHBOARD)
        return dashboard is not None and not dashboard.alive()

    def restart_dashboard(self) -> bool:
        """Starts it again as `ray start` did, after what is left of it and its children has ended; whether it runs."""
        state = processes.read_json(self._paths.ray_state)
        command = state.get("dashboard_command")  # an earlier version noted none
        if not command or processes.end_all(self._left_of_dashboard, limit_s=3.0):
            return False
        process = processes.identify(self._start(command))
        if process is None:
            return False
        _give_way(process.pid)
        others = [entry for entry in state["processes"] if entry["name"] != _DASHBOARD]
        state["processes"] = [*others, {"name": _DASHBOARD, **process.as_json()}]
        processes.write_json(self._paths.ray_state, state)
        return True

    def _left_of_dashboard(self) -> list[ProcessId]:
        """Its orphans, and one that was started when the supervisor was killed before it could note that."""
        found = belongings(self._settings).find()
        return [process for process in found if f"{process_name(process.pid)}.".startswith(f"{_DASHBOARD}.")]

    def _start(self, command: list[str]) -> int:
        with open_log(self.log) as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._paths.home,
                env=child_environment(self._settings),
                start_new_session=True,
            )
        # The supervisor collects its children by pid, so Popen must not wait for this one.
        child.returncode = 0
        return child.pid

    def _arguments(self, ports: dict[str, int]) -> list[str]:
        settings = self._settings
        arguments = {
            "--port": ports["gcs"],
            "--node-ip-address": settings.ray_node_ip,
            "--include-dashboard": str(settings.dashboard).lower(),
            "--dashboard-host": settings.dashboard_host,
            "--dashboard-port": ports["dashboard"],
            "--dashboard-agent-listen-port": ports["agent"],
            "--min-worker-port": 0,
            "--max-worker-port": 0,
            "--temp-dir": self.temp_dir,
            "--object-store-memory": settings.object_store_memory_bytes,
            # It copies what workers print to drivers, looking at all files ten times a second; ours has no use for it.
            "--include-log-monitor": "false",
            "--num-cpus": settings.cpus,
            "--num-gpus": settings.gpus,
            "--resources": json.dumps(settings.named) if settings.named else None,
        }
        given = [f"{key}={value}" for key, value in arguments.items() if value is not None]
        return ["start", "--head", "--disable-usage-stats", "--no-monitor", *given]

    def _choose_ports(self) -> dict[str, int]:
        """The ports of the settings, else those of the last start while they are free, so that nodes find us again."""
        last = processes.read_json(self._paths.ray_state).get("ports", {})
        wanted = {"gcs": self._settings.ray_port, "dashboard": self._settings.dashboard_port, "agent": None}
        chosen: dict[str, int] = {}
        for name, port in wanted.items():
            previous = last.get(name)
            kept = previous if isinstance(previous, int) and port_is_free(previous) else None
            chosen[name] = port or kept or free_port(exclude={self._settings.http_port, *chosen.values()})
        return chosen

    def _node_ip(self, core: dict[str, ProcessId]) -> str:
        """The address that the raylet chose: Ray replaces a loopback address by one of the machine."""
        raylet = core.get("ray.raylet")
        for argument in processes.command_of(raylet.pid) if raylet else ():
            if argument.startswith("--node_ip_address="):
                return argument.partition("=")[2]
        return self._settings.ray_node_ip

    def _find_core(self) -> dict[str, ProcessId]:
        found: dict[str, ProcessId] = {}
        for process in belongings(self._settings).find():
            name = process_name(process.pid)
            if name in CORE:
                found[name] = process
        return found

    def _remove_old_sessions(self) -> None:
        sessions = sorted(self.temp_dir.glob("session_2*"), key=lambda path: path.name)
        for session in sessions[:-_KEPT_SESSIONS]:
            shutil.rmtree(session, ignore_errors=True)


def _give_way(pid: int) -> None:
    """Let a process and its children, also those to come, compute only when nobody else wants to."""
    for each in (pid, *processes.descendants(pid)):
        with contextlib.suppress(OSError):
            # Linux sets the priority of one thread, which those that it starts inherit.
            for thread in Path(f"/proc/{each}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _NICE)


def belongings(settings: Settings) -> processes.Belongings:
    """How every process of this home is recognised."""
    paths = settings.paths
    postgres_dirs = (paths.postgres, Path("/var/lib/airavata") / paths.mark / "postgres")
    return processes.Belongings(paths.mark, postgres_dirs, RayHead(settings).temp_dir)


def recorded_core(state: dict[str, Any]) -> dict[str, ProcessId]:
    """The processes in the content of ``ray.json``, by name."""
    found = {}
    for entry in state.get("processes", []):
        process = ProcessId.from_json(entry)
        if process is not None:
            found[str(entry.get("name"))] = process
    return found


def dashboard_modules(core: dict[str, ProcessId]) -> list[tuple[str, int]]:
    """Name and pid of the dashboard's own children, which it starts again by itself when one dies."""
    dashboard = core.get("ray.dashboard")
    if dashboard is None or not dashboard.alive():
        return []
    named = ((process_name(pid), pid) for pid in processes.descendants(dashboard.pid) if processes.identify(pid))
    return [(name, pid) for name, pid in named if name]


def process_name(pid: int) -> str:
    """The stable name of one of Ray's own processes; empty for every other."""
    command = " ".join(processes.command_of(pid)) + " "
    for pattern, name in _NAMES:
        if pattern.search(command):
            return name
    module = _MODULE.match(command)
    if module:
        return f"ray.dashboard.{module[1]}"
    helper = _HELPER.search(command)
    return f"ray.dashboard.{helper[1]}" if helper else ""
