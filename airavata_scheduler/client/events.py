"""The live stream of events of one experiment over a WebSocket, used to learn early that something changed.

Nothing depends on it: who uses it asks the API for the state, and an event only says that asking makes sense now. So a
stream that cannot be opened, or breaks, costs time and never correctness.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airavata_scheduler.client.errors import ApiError
from airavata_scheduler.client.transport import PREFIX, Transport

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_CONNECT_LIMIT_S = 3.0
_LONGEST_PAUSE_S = 30.0


class EventStream:
    """Events of one experiment, in order, from a sequence number on; connects again by itself."""

    def __init__(
        self,
        transport: Transport,
        experiment: str,
        *,
        after: int = 0,
        connect: Callable[..., ClientConnection] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._experiment = experiment
        self._connect, self._sleep, self._clock = connect, sleep, clock
        self._socket: ClientConnection | None = None
        self._next_try, self._pause_s = 0.0, 1.0
        self.seq = after  #: the last event seen; where a new connection goes on

    @property
    def connected(self) -> bool:
        """Whether events arrive by themselves at the moment."""
        return self._socket is not None

    def wait(self, timeout_s: float) -> list[dict[str, Any]]:
        """The events that arrived, waiting up to `timeout_s` for the first; without a connection it just waits."""
        if self._socket is None and self._clock() >= self._next_try:
            self._open()
        if self._socket is None:
            self._sleep(timeout_s)
            return []
        events: list[dict[str, Any]] = []
        remaining_s = timeout_s
        while (event := self._receive(remaining_s)) is not None:
            events.extend([event] if event.get("type") == "event" else [])
            remaining_s = 0.0 if events else remaining_s
        return events

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        from websockets.exceptions import WebSocketException  # noqa: PLC0415  (loaded when it is needed)
        from websockets.sync import client  # noqa: PLC0415  (loaded when it is needed)

        target = self._transport.target
        options: dict[str, Any] = {"proxy": None} if target.loopback else {}
        if target.ca_file and target.url.startswith("https://"):
            options["ssl"] = ssl.create_default_context(cafile=target.ca_file)
        address = f"ws{target.url.removeprefix('http')}{PREFIX}/stream?experiment={self._experiment}&after={self.seq}"

        def connect(*args: Any, **more: Any) -> ClientConnection:
            # websockets from 17.1 on wants to be used in a `with`; this connection outlives any block: `close` ends it.
            socket: ClientConnection = ExitStack().enter_context(client.connect(*args, **more))
            return socket

        try:
            self._socket = (self._connect or connect)(
                address,
                additional_headers={"Authorization": f"Bearer {self._transport.access_token()}"},
                open_timeout=_CONNECT_LIMIT_S,
                close_timeout=1.0,
                **options,
            )
            self._pause_s = 1.0
        except (OSError, WebSocketException, ApiError):
            self._lost()

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        from websockets.exceptions import WebSocketException  # noqa: PLC0415  (loaded when it is needed)

        if self._socket is None:
            return None
        try:
            message = json.loads(self._socket.recv(timeout=timeout_s))
        except TimeoutError:
            return None
        except (OSError, WebSocketException, ValueError):
            self._lost()
            return None
        if not isinstance(message, dict):
            return {}
        self.seq = max(self.seq, int(message.get("seq") or 0))
        return message

    def _lost(self) -> None:
        self._socket = None
        self._next_try = self._clock() + self._pause_s
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
