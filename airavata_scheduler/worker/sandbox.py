"""What this machine lets us do to keep the processes of a task together; found out once, by doing it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from airavata_scheduler.worker.frames import Decoder, encode

_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """``mode``: `root` or `user` (PID namespace, made as that), or `plain`. ``wrapper`` goes before each command."""

    mode: str
    wrapper: tuple[str, ...] = ()

    def facts(self) -> dict[str, str | bool]:
        """For the platform and for people."""
        return {"sandbox": self.mode, "pid_namespace": self.mode != "plain", "parent_death_signal": bool(self.wrapper)}


class SandboxError(Exception):
    """Processes cannot be run here as they must."""


Starter = Callable[[str], tuple[socket.socket, "subprocess.Popen[bytes]"]]


def probe_sandbox(start: Starter) -> Sandbox:
    """The best mode that works here. Raises SandboxError if exit codes are not what they must be."""
    for mode in ("root" if os.geteuid() == 0 else "user", "plain"):
        answer = _try(start, mode)
        if answer is None:
            continue
        pid, codes = answer
        if codes != (0, 1):
            raise SandboxError(
                f"`true` and `false` ended with {codes} instead of (0, 1): something on this machine spoils exit codes "
                "(a SIGCHLD handler, a wrapper on PATH); find it before tasks run here"
            )
        if mode == "plain":
            return Sandbox(mode, _death_signal_wrapper())
        if pid == 1:
            return Sandbox(mode)
    raise SandboxError("the spawner process does not start; its reason is on standard error")


def _death_signal_wrapper() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if not setpriv:
        return ()
    wrapper = (setpriv, "--pdeathsig", "KILL")
    works = subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode == 0
    return wrapper if works else ()


def _try(start: Starter, mode: str) -> tuple[int, tuple[int, int]] | None:
    connection, process = start(mode)
    connection.settimeout(_PATIENCE_S)
    decoder = Decoder()
    messages: list[tuple[str, int, tuple[int, int]]] = []
    try:
        with connection:
            connection.sendall(encode([("check",)]))
            while not messages:
                data = connection.recv(1 << 16)
                if not data:
                    return None
                messages = decoder.feed(data)
        return messages[0][1], messages[0][2]
    except OSError:
        return None
    finally:
        process.kill()
        process.wait()
