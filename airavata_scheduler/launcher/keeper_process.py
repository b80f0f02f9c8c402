"""The keeper as the supervisor sees it: a process that must stay alive and must keep writing ``cluster.json``."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.environment import child_environment
from airavata_scheduler.launcher.logs import open_log
from airavata_scheduler.launcher.processes import ProcessId
from airavata_scheduler.settings import Settings

LOG_NAME = "keeper.log"
_HANG_S = 20.0
_FIRST_WRITE_S = 60.0


class KeeperProcess:
    """Starts, adopts, watches and ends one keeper (`python -m <settings.keeper_module> --home DIR`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.paths.cluster
        self.log = settings.paths.log / LOG_NAME
        self.process: ProcessId | None = None
        self._seen = 0
        self._changed_at_s = time.monotonic()
        self._written = False

    def adopt(self, process: ProcessId | None) -> bool:
        """Takes over a keeper that an earlier supervisor started; whether it is alive."""
        if process is None or not process.alive():
            return False
        self._watch(process)
        return True

    def start(self, ray_address: str) -> ProcessId | None:
        """Starts a keeper for the cluster at `ray_address`; None when it ended at once."""
        # What is in the file from now on was written by the new one.
        self._file.unlink(missing_ok=True)
        with open_log(self.log) as log:
            child = subprocess.Popen(
                [sys.executable, "-m", self._settings.keeper_module, "--home", str(self._settings.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._settings.home,
                env=child_environment(self._settings, ray_address),
                start_new_session=True,
            )
        child.returncode = 0  # collected by the supervisor, by pid
        process = processes.identify(child.pid)
        if process is not None:
            self._watch(process)
        return process

    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    def hangs(self) -> bool:
        """Whether ``cluster.json`` did not change for too long, by the monotonic clock, which never jumps."""
        stamp = _modified_ns(self._file)
        now = time.monotonic()
        if stamp != self._seen:
            self._written = self._written or stamp != 0
            self._seen, self._changed_at_s = stamp, now
        return now - self._changed_at_s > (_HANG_S if self._written else _FIRST_WRITE_S)

    def stop(self, term_s: float) -> None:
        """TERM, then KILL after `term_s` seconds; 0 means KILL at once. A keeper under SIGSTOP is woken first."""
        if self.process is not None:
            if term_s > 0:
                self.process.kill(signal.SIGCONT)
            processes.end_processes([self.process], term_s)
        self.process = None

    def _watch(self, process: ProcessId) -> None:
        self.process = process
        self._seen, self._written, self._changed_at_s = _modified_ns(self._file), False, time.monotonic()


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
