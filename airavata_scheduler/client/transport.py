"""HTTP with everything that a caller should not have to think about: logging in, refreshing tokens, trying again."""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from airavata_scheduler import __version__
from airavata_scheduler.client.errors import (
    ApiError,
    NotAuthenticatedError,
    RateLimitedError,
    UnavailableError,
    UnreachableError,
    error_from,
)
from airavata_scheduler.client.target import Target, running_url
from airavata_scheduler.client.tokens import Tokens, TokenStore

PREFIX = "/api/v1"
_SAFE = {"GET", "HEAD", "PUT", "DELETE"}
_LONGEST_PAUSE_S = 3.0


class Transport:
    """One connection pool to one platform. Safe to share between threads."""

    def __init__(
        self,
        target: Target,
        *,
        timeout_s: float = 30.0,
        patience_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patience_s`: how long a request that may be repeated is tried again while nothing answers."""
        self.target = target
        self.patience_s = patience_s
        self.on_retry: Callable[[str], None] = lambda _message: None
        self._sleep, self._clock = sleep, clock
        self._store = TokenStore(target.config_dir, target.url)
        self._tokens: Tokens | None = None
        self._lock = threading.RLock()
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            verify=_verification(target),
            trust_env=not target.loopback,
            transport=transport,
            headers={"User-Agent": f"airavata-scheduler/{__version__}"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def json(self, method: str, path: str, **request: Any) -> Any:
        """The decoded JSON of an answer; None for an empty one. Arguments as of `request`."""
        response = self.request(method, path, **request)
        return response.json() if response.content else None

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        patience_s: float | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """One request; tried again while nothing answers if that cannot do a thing twice (`repeatable`).

        `timeout_s`: how long the answer may take, where that is long. Raises the `ApiError` that it stands for.
        304 is an answer like any other.
        """
        with self._opened(
            method, path, params, json, headers, repeatable, patience_s, whole=True, read_timeout_s=timeout_s
        ) as response:
            return response

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Iterator[httpx.Response]:
        """A GET whose body is read piece by piece. A connection that breaks on the way raises `UnavailableError`."""
        with self._opened(
            "GET", path, params, None, None, True, None, whole=False, read_timeout_s=timeout_s
        ) as response:
            try:
                yield response
            except httpx.TransportError as error:
                raise UnavailableError(f"the connection broke ({error})", remedy="try again") from error

    @contextmanager
    def _opened(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        json: Any,
        headers: Mapping[str, str] | None,
        repeatable: bool | None,
        patience_s: float | None,
        *,
        whole: bool,
        read_timeout_s: float | None = None,
    ) -> Iterator[httpx.Response]:
        again = method in _SAFE if repeatable is None else repeatable
        give_up = self._clock() + (self.patience_s if patience_s is None else patience_s)
        pause_s, logged_in_anew = 0.1, False
        while True:
            built = self._http.build_request(
                method, self._address(path), params=_present(params), json=json, headers=headers
            )
            if read_timeout_s is not None:
                built.extensions["timeout"]["read"] = read_timeout_s
            try:
                response = self._send(built, whole=whole)
            except NotAuthenticatedError:
                if logged_in_anew or not self._renew():
                    raise
                logged_in_anew = True
            except (UnreachableError, UnavailableError) as error:
                wait_s = error.retry_after_s or pause_s * random.uniform(0.7, 1.3)  # noqa: S311  (no secret)
                nothing_was_done = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout) or isinstance(
                    error, RateLimitedError
                )
                if not (again or nothing_was_done) or self._clock() + wait_s > give_up:
                    raise
                if patience_s is None:
                    self.on_retry(error.message)
                self._sleep(wait_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.7)
                self._look_again()
            else:
                with contextlib.closing(response):
                    yield response
                return

    def _send(self, request: httpx.Request, *, whole: bool = True, authenticate: bool = True) -> httpx.Response:
        if authenticate:
            request.headers["Authorization"] = f"Bearer {self.access_token()}"
        try:
            response = self._http.send(request, stream=True)
            if whole or response.is_error:
                response.read()
            if not response.is_error:
                return response
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise UnreachableError(
                f"{self.target.url} does not answer ({str(error) or type(error).__name__})", remedy=self._how_to_start()
            ) from error
        raise error_from(response.status_code, _body(response), response.headers.get("Retry-After"))

    def _address(self, path: str) -> str:
        return f"{self.target.url}{PREFIX}{path}"

    def _how_to_start(self) -> str:
        if self.target.local:
            return f"see `airavata status --home {self.target.home}`, or start it with `airavata up`"
        return "check the address and the network"

    def _look_again(self) -> None:
        """After a restart the platform of this home may listen somewhere else."""
        found = running_url(self.target.home) if self.target.local else None
        if found and found[0] != self.target.url:
            self.target = replace(self.target, url=found[0])
            self._store = TokenStore(self.target.config_dir, self.target.url)

    def access_token(self) -> str:
        """A token that is good now; logs in or refreshes when needed. Raises `NotAuthenticatedError`."""
        if self.target.token:
            return self.target.token
        with self._lock:
            if self._tokens is None:
                self._tokens = self._store.load(self.target.username)
            if self._tokens is None or not self._tokens.fresh():
                self._tokens = self._obtain(self._tokens)
            return self._tokens.access_token

    def _renew(self) -> bool:
        """After a refusal: other tokens than those that were refused. False if there is no way to get any."""
        if self.target.token:
            return False
        with self._lock:
            try:
                self._tokens = self._obtain(self._tokens)
            except NotAuthenticatedError:
                return False
            return True

    def _obtain(self, refused: Tokens | None) -> Tokens:
        with self._store.locked():
            stored = self._store.load(self.target.username)
            if stored and stored.fresh() and (refused is None or stored.access_token != refused.access_token):
                return stored
            tokens = self._refresh(stored or refused) or self._login_unasked()
            if tokens is None:
                raise NotAuthenticatedError(
                    f"you are not logged in to {self.target.url}",
                    remedy="log in with `airavata auth login`, or set AIRAVATA_TOKEN",
                )
            self._store.save(tokens)
            return tokens

    def _refresh(self, tokens: Tokens | None) -> Tokens | None:
        if tokens is None:
            return None
        try:
            answer = self._open_post("/auth/refresh", {"refresh_token": tokens.refresh_token})
        except (UnreachableError, UnavailableError):
            raise
        except ApiError:
            return None
        return Tokens.from_answer(tokens.username, answer)

    def _login_unasked(self) -> Tokens | None:
        credentials = self.target.credentials
        return self._login(*credentials) if credentials else None

    def _login(self, username: str, password: str) -> Tokens:
        answer = self._open_post("/auth/login", {"username": username, "password": password})
        return Tokens.from_answer(username, answer)

    def _open_post(self, path: str, body: Mapping[str, str]) -> dict[str, Any]:
        response = self._send(self._http.build_request("POST", self._address(path), json=body), authenticate=False)
        answer: dict[str, Any] = response.json()
        return answer

    def login(self, username: str, password: str) -> None:
        """Log in and remember it. Raises `NotAuthenticatedError` when the platform does not know the two."""
        with self._lock, self._store.locked():
            self._tokens = self._login(username, password)
            self._store.save(self._tokens)
            self.target = replace(self.target, username=username, password=password, token=None)

    def logout(self) -> str | None:
        """Revoke the tokens and forget them; whose they were, None if there were none."""
        with self._lock, self._store.locked():
            tokens = self._store.load(self.target.username) or self._tokens
            if tokens is None:
                return None
            if not tokens.fresh() and (renewed := self._refresh(tokens)):  # an old access token could revoke nothing
                tokens = renewed
                self._store.save(tokens)
            request = self._http.build_request(
                "POST",
                self._address("/auth/logout"),
                headers={"Authorization": f"Bearer {tokens.access_token}"},
            )
            with contextlib.suppress(NotAuthenticatedError):  # they have ended already
                self._send(request, authenticate=False)
            self._store.forget(tokens.username)
            self._tokens = None
            return tokens.username


def _verification(target: Target) -> Any:
    if not target.url.startswith("https://"):
        return False  # nothing to verify without TLS, and loading the certificates takes a while
    if not target.ca_file:
        return True
    return ssl.create_default_context(cafile=target.ca_file)


def _present(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: value for key, value in params.items() if value is not None} if params else None


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
