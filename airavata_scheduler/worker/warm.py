"""The spawner's end of a warm Python process: started once, called many times, one JSON line each way."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "warm_child.py")
_CHILD_FD = 3
IDLE_S = 60.0


class Warm:
    """One interpreter. ``key`` says for which program it can be used."""

    def __init__(
        self, key: tuple[Any, ...], environment: Mapping[str, str], python_path: Sequence[str], out: int, err: int
    ) -> None:
        self.key = key
        self.idle_since = 0.0
        self._received = bytearray()
        self._socket, theirs = socket.socketpair()
        make_asynchronous(self._socket)
        actions = [
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CHILD_FD),
        ]
        argv = [sys.executable, "-P", "-u", _CHILD, str(_CHILD_FD), *python_path]
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                argv,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )

    def call(self, function: str, parameters: Mapping[str, Any], directory: str, variables: Mapping[str, str]) -> None:
        """Start a call; `answer` has the result later."""
        request = {"function": function, "arguments": parameters, "directory": directory, "environment": variables}
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def answer(self) -> dict[str, Any] | None:
        """The answer to the call, or None as long as it is not complete."""
        try:
            while data := self._socket.recv(1 << 20, socket.MSG_DONTWAIT):
                self._received += data
        except (BlockingIOError, ConnectionResetError):
            pass
        if not self._received.endswith(b"\n"):
            return None
        line = bytes(self._received)
        self._received.clear()
        try:
            answer: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError) as error:
            message = f"the return value cannot be read ({error}); return numbers, strings, lists and dictionaries"
            return {"cause": "missing_output", "message": message, "cpu_s": 0.0}
        return answer

    def close(self) -> None:
        self._socket.close()


def make_asynchronous(connection: socket.socket) -> None:
    """Ask for SIGIO when something arrives, so that the spawner waits for processes and sockets in one call."""
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
