"""What happens to every request: its id, the limit of its body, its duration, and the last net under it."""

from __future__ import annotations

import re
import secrets
import time
import traceback

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airavata_scheduler.api.errors import error_response, internal_error
from airavata_scheduler.platform.domain.errors import Problem

_LOG = structlog.get_logger(__name__)
_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


class RequestMiddleware:
    """Pure ASGI, so that streams stay streams."""

    def __init__(self, app: ASGIApp, body_bytes: int, durations: Histogram) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._durations = durations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.match(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began, status, started = time.perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await refusal(scope, receive, sending)
                return
            await self._app(scope, self._limited(receive), sending)
        except Exception:
            # As text: a renderer that shows local variables would put passwords and tokens into the log.
            what = {"request_id": request_id, "method": scope["method"], "path": scope["path"]}
            _LOG.error("request failed", **what, traceback=traceback.format_exc())
            if started:
                raise
            await internal_error(Request(scope))(scope, receive, sending)
        finally:
            # The template of the path, not the path: the number of series must not grow with that of experiments.
            route = getattr(scope.get("route"), "path", "unknown")
            self._durations.labels(scope["method"], route, str(status)).observe(time.perf_counter() - began)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._body_bytes:
            message, remedy = "the body of the request is too large", f"send at most {self._body_bytes} bytes"
            return error_response(Request(scope), 413, "too_large", message, remedy=remedy)
        # PostgreSQL stores no zero bytes, so no name, id or filter can have one.
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            problem = Problem("", "the address contains a zero byte", "", "leave it out")
            return error_response(
                Request(scope), 422, "invalid_request", problem.message, remedy=problem.remedy, problems=[problem]
            )
        return None

    def _limited(self, receive: Receive) -> Receive:
        seen = 0

        async def receiving() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._body_bytes:
                raise HTTPException(413)
            return message

        return receiving
