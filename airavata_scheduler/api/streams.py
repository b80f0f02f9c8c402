"""Live events over a WebSocket, with replay from a cursor. An app of its own: streams never hold up requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from airavata_scheduler.api import errors
from airavata_scheduler.api.access import Access
from airavata_scheduler.api.hub import EventHub, Listener
from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.platform.domain.errors import (
    AiravataError,
    InvalidRequestError,
    NotAuthenticatedError,
    UnavailableError,
)
from airavata_scheduler.platform.domain.views import EventView

#: Close codes: why the server ended a stream.
NOT_AUTHENTICATED, NOT_ALLOWED, TOO_SLOW, UNAVAILABLE, INVALID = 4401, 4403, 4408, 4503, 4422
_CODES = (
    (NotAuthenticatedError, NOT_AUTHENTICATED),
    (UnavailableError, UNAVAILABLE),
    (InvalidRequestError, INVALID),
)
_PAGE = 1000
_AUTH_S = 10.0
_PING_S = 20.0
_RECHECK_S = 30.0
_SEND_S = 30.0
_MAX_SEQ = 2**63 - 1
_PATH = "/stream"
_LOG = structlog.get_logger(__name__)


class _OnePath:
    """Wherever the app is mounted, its one WebSocket is found: proxies differ in whether they cut the prefix off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope = {**scope, "path": _PATH, "raw_path": _PATH.encode(), "root_path": ""}
        await self._app(scope, receive, send)


class Subscriptions:
    """What one socket wants and may see."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}  #: id -> project
        self.projects: set[str] = set()
        self.all = False
        self.visible: frozenset[str] | None = frozenset()  #: projects; None for everything

    def sees(self, project: str | None) -> bool:
        """Whether events of a project, or of none, may be shown."""
        return self.visible is None or (project is not None and project in self.visible)

    def wants(self, event: EventView) -> bool:
        """Whether an event is to be sent."""
        if not self.sees(event.project):
            return False
        return self.all or event.experiment in self.experiments or event.project in self.projects


def _message(event: EventView) -> dict[str, Any]:
    return {
        "type": "event",
        "seq": event.seq,
        "kind": event.kind,
        "at": datetime.fromtimestamp(event.at, UTC).isoformat().replace("+00:00", "Z"),
        "experiment": event.experiment,
        "project": event.project,
        "data": dict(event.data),
    }


def _cursor(value: Any) -> int | None:
    """A sequence number of the client. InvalidRequestError if it is none."""
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SEQ:
        raise InvalidRequestError(
            "`after` is not the number of an event", path="after", remedy="pass the last `seq` you got"
        )
    return value


class Session:
    """One socket from authentication to close."""

    def __init__(self, services: ApiServices, hub: EventHub, socket: WebSocket) -> None:
        self._services = services
        self._hub = hub
        self._socket = socket
        self._wanted = Subscriptions()
        self._listener = Listener(self._wanted.wants)
        self._sending = asyncio.Lock()
        self._access: Access | None = None
        self._sent = 0  #: number of the last event that was sent, or passed over

    async def run(self) -> None:
        """Serve until either side ends it."""
        await self._socket.accept()
        try:
            self._access = Access(self._services, await self._services.identity.authenticate(await self._token()))
            await self._access.platform()
            await self._serve()
        except WebSocketDisconnect:
            return
        except AiravataError as error:
            await self._end(next((code for kind, code in _CODES if isinstance(error, kind)), NOT_ALLOWED), error)
        except TimeoutError:
            await self._close(TOO_SLOW, "too slow: reconnect with after=<last seq>")

    async def _token(self) -> str:
        scheme, _, token = self._socket.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        try:
            first = await asyncio.wait_for(self._receive(), _AUTH_S)
        except TimeoutError:
            first = {}
        if first.get("type") != "auth" or not isinstance(first.get("token"), str):
            remedy = 'send the header Authorization, or first of all {"type": "auth", "token": …}'
            raise NotAuthenticatedError("no access token was sent", remedy=remedy)
        return str(first["token"])

    async def _receive(self) -> dict[str, Any]:
        """The next message. InvalidRequestError unless it is a JSON object."""
        try:
            text = await self._socket.receive_text()
        except KeyError:  # it came as bytes
            text = ""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or "\\u0000" in text or "\0" in text:
            raise InvalidRequestError("a message must be a JSON object", remedy='for example {"type": "ping"}')
        return message

    async def _serve(self) -> None:
        query = self._socket.query_params
        after, first = _cursor(query.get("after")), query.get("experiment")
        await self._look()
        if first is not None:
            await self._subscribe({"experiment": first})
        elif after is not None:
            # A cursor without a subscription can only mean everything: later subscriptions begin with what is new.
            self._wanted.all = True
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._begin(after)
            parts = (self._listen(), self._deliver(), self._watch(), self._stall())
            tasks = [asyncio.create_task(part) for part in parts]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._hub.detach(self._listener)

    async def _begin(self, after: int | None) -> None:
        """Say hello, replay what is older than now, and join the hub without a gap or a repetition."""
        if after is None:
            self._sent = await self._hub.attach(self._listener)
            await self._send({"type": "hello", "seq": self._sent})
            return
        self._sent = after
        await self._send({"type": "hello", "seq": after})
        async for event in self._missed():
            await self._deliver_one(event)
        joined = await self._hub.attach(self._listener)
        # Between the last page and joining, something may have been committed.
        async for event in self._missed(until=joined):
            await self._deliver_one(event)

    async def _missed(self, until: int = _MAX_SEQ) -> AsyncIterator[EventView]:
        wanted = self._wanted
        only = next(iter(wanted.experiments)) if len(wanted.experiments) == 1 else None
        visible = None if wanted.visible is None else sorted(wanted.visible)
        at = self._sent
        while at < until:
            page = await self._services.queries.events(at, _PAGE, experiment=only, visible=visible)
            for event in page:
                at = event.seq
                if wanted.wants(event):
                    yield event
            if len(page) < _PAGE:
                return

    async def _deliver_one(self, event: EventView) -> None:
        if event.seq > self._sent:
            await self._send(_message(event))
            self._sent = event.seq

    async def _deliver(self) -> None:
        while True:
            try:
                event = await asyncio.wait_for(self._listener.queue.get(), _PING_S)
            except TimeoutError:
                await self._send({"type": "ping"})
            else:
                await self._deliver_one(event)

    async def _stall(self) -> None:
        await self._listener.overrun.wait()
        raise TimeoutError

    async def _watch(self) -> None:
        """Look again from time to time what the user may see: a login or a permission that ended ends here too."""
        assert self._access is not None
        while True:
            await self._services.clock.sleep(_RECHECK_S)
            await self._services.identity.look_again(self._access.principal)
            await self._look()

    async def _look(self) -> None:
        assert self._access is not None
        await self._access.platform()
        visible = await self._services.authorization.visible(self._access.name, "project")
        self._wanted.visible = None if visible is None else frozenset(visible)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._receive()
                await self._answer(message)
            except (WebSocketDisconnect, UnavailableError):
                raise
            except AiravataError as error:
                await self._send_error(error)

    async def _answer(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "ping":
                await self._send({"type": "pong"})
            case "pong" | "auth":
                return
            case "subscribe":
                await self._look()
                await self._subscribe(message)
                await self._send({**message, "type": "subscribed"})
            case "unsubscribe":
                self._unsubscribe(message)
                await self._send({**message, "type": "unsubscribed"})
            case other:
                known = "subscribe, unsubscribe, ping"
                raise InvalidRequestError(
                    f"unknown type {str(other)[:40]!r}", path="type", remedy=f"use one of {known}"
                )

    async def _subscribe(self, message: dict[str, Any]) -> None:
        assert self._access is not None
        experiment, project = message.get("experiment"), message.get("project")
        if isinstance(experiment, str) and "\0" not in experiment:
            self._wanted.experiments[experiment] = await self._access.experiment(experiment)
        elif isinstance(project, str):
            await self._access.project(project)
            self._wanted.projects.add(project)
        elif message.get("all"):
            self._wanted.all = True
        else:
            remedy = 'add "experiment": ID, "project": NAME or "all": true'
            raise InvalidRequestError("a subscription must say to what", path="experiment", remedy=remedy)

    def _unsubscribe(self, message: dict[str, Any]) -> None:
        self._wanted.experiments.pop(str(message.get("experiment")), None)
        self._wanted.projects.discard(str(message.get("project")))
        if message.get("all"):
            self._wanted.all = False

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending, asyncio.timeout(_SEND_S):
            await self._socket.send_text(json.dumps(message, default=str))

    async def _send_error(self, error: AiravataError) -> None:
        await self._send(
            {"type": "error", "code": error.code, "message": error.message, "path": error.path, "remedy": error.remedy}
        )

    async def _end(self, code: int, error: AiravataError) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            await self._send_error(error)
        await self._close(code, error.message)

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(_AUTH_S):
                await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))


def build_streams_app(services: ApiServices) -> FastAPI:
    """The app whose one WebSocket streams events; to be mounted at /api/v1/stream."""
    app = FastAPI(title="Airavata Scheduler streams", openapi_url=None, docs_url=None, redoc_url=None)
    hub = EventHub(services.queries, services.event_bus)
    app.state.services, app.state.hub = services, hub

    @app.websocket(_PATH)
    async def stream(socket: WebSocket) -> None:
        """Events as they are committed."""
        await Session(services, hub, socket).run()

    app.add_middleware(_OnePath)
    errors.install(app)
    return app
