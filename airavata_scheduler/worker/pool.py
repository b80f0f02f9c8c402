"""The agent's end of its spawners: start, send, receive, notice death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airavata_scheduler.worker.frames import Decoder, encode
from airavata_scheduler.worker.sandbox import Sandbox

_SCRIPT = Path(__file__).with_name("spawner.py")
_READ_BYTES = 1 << 18
#: A process that hangs in the kernel, on a dead file server for instance, must not hold up the agent for good.
_PATIENCE_S = 5.0


class SpawnerProcess:
    """One spawner. ``received`` gets its messages, ``died`` is called once when it is gone with all its children."""

    def __init__(self, sandbox: Sandbox, received: Callable[[list[Any]], None], died: Callable[[], None]) -> None:
        self.programs: set[int] = set()
        self._received = received
        self._died = died
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._in_namespace = sandbox.mode != "plain"
        self._socket, self._process = start_spawner(sandbox.mode)
        self._loop.add_reader(self._socket, self._read)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, messages: list[Any]) -> None:
        """Send, in order, as fast as the spawner takes it."""
        waiting = bool(self._unsent)
        self._unsent += encode(messages)
        if not waiting:
            self._write()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # it died: the reader sees that as well
            self._unsent.clear()
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(self._decoder.feed(data))
        else:
            self.kill()
            self._died()

    def kill(self) -> None:
        """End it and, if it has a namespace of its own, everything below it; returns when the kernel has done so."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        if self._in_namespace:
            self._process.terminate()  # it then waits for the end of the namespace
            self._process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        self._process.kill()
        self._process.wait()


def start_spawner(mode: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the process. Its parent-death signal is tied to the calling thread: call from the thread of the loop."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-I", "-S", "-E", "-u", str(_SCRIPT), str(theirs.fileno()), mode, str(os.getpid())]
    with theirs:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
    ours.setblocking(False)
    return ours, process
