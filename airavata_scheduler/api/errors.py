"""One form for every error that leaves the API."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from airavata_scheduler.platform.domain.errors import (
    AiravataError,
    ConflictError,
    InvalidDocumentError,
    InvalidRequestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotFoundError,
    Problem,
    RateLimitedError,
    UnavailableError,
    shorten,
)

_STATUS: tuple[tuple[type[AiravataError], int], ...] = (
    (InvalidRequestError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (NotAuthenticatedError, 401),
    (NotAllowedError, 403),
    (RateLimitedError, 429),
    (UnavailableError, 503),
)
_HTTP: Mapping[int, tuple[str, str, str]] = {
    404: ("not_found", "there is nothing at this address", "see /api/v1/openapi.json for the addresses there are"),
    405: ("method_not_allowed", "this address does not know that method", "see the header Allow"),
    413: ("too_large", "the body of the request is too large", "send less, or refer to files instead of inlining them"),
}
_SECRETS = ("password", "new", "old", "token", "refresh_token", "access_token", "secret")
_INTERNAL = "something went wrong inside of the platform"


class ProblemModel(BaseModel):
    """One thing that is wrong, in one place."""

    path: str
    message: str
    value: str
    remedy: str


class ErrorModel(BaseModel):
    """Every error looks like this; ``problems`` has all of them where a request or document is not valid."""

    code: str
    message: str
    path: str
    remedy: str
    request_id: str
    problems: list[ProblemModel] | None = None


#: Status: what it means, and code, message, path and remedy of an example.
_MEANING: Mapping[int, tuple[str, str, str, str, str]] = {
    401: ("No valid token", "not_authenticated", "the access token has ended", "", "log in again, or refresh"),
    403: (
        "Not permitted", "not_allowed", "you may not submit in the project 'plasma'", "project",
        "ask an owner of the project for another role",
    ),
    404: (
        "Not there, or not to be seen by you", "not_found", "there is no experiment 'e-7x'", "experiment",
        "list them with `airavata experiment list`",
    ),
    409: (
        "The state of the thing forbids it", "conflict", "experiment e-7x is SUCCEEDED; paused needs RUNNING", "",
        "see `airavata experiment status e-7x`",
    ),
    413: (
        "The body is too large", "too_large", "the body of the request is too large", "", "send at most 33554432 bytes"
    ),
    422: (
        "The request is not valid", "invalid_document", "tasks.a.colour: there is no field 'colour'", "tasks.a.colour",
        "see `airavata experiment schema`",
    ),
    429: ("Too many requests; see Retry-After", "rate_limited", "too many logins", "", "wait 42 s"),
    503: (
        "Something needed does not answer; see Retry-After", "unavailable", "the database does not answer", "",
        "try again",
    ),
}  # fmt: skip


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of these errors, and of those that every route knows, each with an example."""
    return {code: _response(*_MEANING[code]) for code in sorted({413, 422, 503, *codes})}


def _response(meaning: str, code: str, message: str, path: str, remedy: str) -> dict[str, Any]:
    example: dict[str, Any] = {
        "code": code,
        "message": message,
        "path": path,
        "remedy": remedy,
        "request_id": "5b1c0f6e2a3d4c5f",
    }
    if code == "invalid_document":
        what = message.removeprefix(f"{path}: ")
        example["problems"] = [{"path": path, "message": what, "value": "'red'", "remedy": remedy}]
    return {"model": ErrorModel, "description": meaning, "content": {"application/json": {"example": example}}}


def request_id(request: Request) -> str:
    """The id of this request, as the middleware chose it."""
    return str(getattr(request.state, "request_id", ""))


def error_response(
    request: Request,
    status: int,
    code: str,
    message: str,
    *,
    path: str = "",
    remedy: str = "",
    problems: Sequence[Problem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error in the one form."""
    content: dict[str, Any] = {
        "code": code,
        "message": message,
        "path": path,
        "remedy": remedy,
        "request_id": request_id(request),
    }
    if problems is not None:
        content["problems"] = [problem.to_json() for problem in problems]
    return JSONResponse(content, status_code=status, headers=dict(headers or {}))


def internal_error(request: Request) -> JSONResponse:
    """The answer to a fault of ours; what it was is in the log under the request id, not here."""
    remedy = "try again; if it stays, tell the operator the request id"
    return error_response(request, 500, "internal", _INTERNAL, remedy=remedy)


async def _platform_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AiravataError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        raise error
    headers = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, NotAuthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    problems: Sequence[Problem] | None = None
    if isinstance(error, InvalidDocumentError):
        problems = error.problems
    elif isinstance(error, InvalidRequestError):
        problems = [Problem(error.path, error.message, "", error.remedy)]
    return error_response(
        request,
        status,
        error.code,
        error.message,
        path=error.path,
        remedy=error.remedy,
        problems=problems,
        headers=headers,
    )


def _problem(item: Mapping[str, Any]) -> Problem:
    place = [str(part) for part in item["loc"]]
    path = ".".join(place[1:] if place and place[0] in {"body", "query", "path", "header"} else place)
    value = item.get("input")
    # A missing field's input is the whole body, which may hold a password: only single values are shown.
    hidden = not isinstance(value, str | int | float | bool) or any(part in _SECRETS for part in place)
    message = str(item["msg"]).removeprefix("Value error, ")
    return Problem(path, message, "" if hidden else shorten(value), "see /api/v1/openapi.json for what is expected")


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [_problem(item) for item in error.errors()]
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = f"{first.path}: {first.message}{more}" if first.path else f"{first.message}{more}"
    return error_response(
        request, 422, "invalid_request", message, path=first.path, remedy=first.remedy, problems=problems
    )


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        problem = Problem("", "the body cannot be read", "", "send UTF-8 encoded JSON")
        return error_response(
            request, 422, "invalid_request", problem.message, remedy=problem.remedy, problems=[problem]
        )
    known = _HTTP.get(error.status_code, (f"http_{error.status_code}", str(error.detail), ""))
    code, message, remedy = known
    return error_response(request, error.status_code, code, message, remedy=remedy, headers=error.headers)


def install(app: FastAPI) -> None:
    """Make the app answer every error in the one form."""
    app.add_exception_handler(AiravataError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
