"""What the platform answers when it says no, as exceptions. Standard library only.

They mirror the one error form of the API: `code`, `message`, `path`, `remedy`, `request_id`, `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one place of a document or request."""

    path: str
    message: str
    value: str = ""
    remedy: str = ""

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Problem:
        """From a row of `problems`; what is missing is empty."""
        return cls(*(str(row.get(key) or "") for key in ("path", "message", "value", "remedy")))


class ApiError(Exception):
    """The platform refused or failed; the subclass says in which way, `code` exactly."""

    default_code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        path: str = "",
        remedy: str = "",
        request_id: str = "",
        problems: Sequence[Problem] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.path = path
        self.remedy = remedy
        self.request_id = request_id
        self.problems = tuple(problems)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Message and remedy, and one line for each problem."""
        if self.problems:
            return "\n".join(
                f"{p.path or 'document'}: {p.message}" + (f" ({p.remedy})" if p.remedy else "") for p in self.problems
            )
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def to_json(self) -> dict[str, Any]:
        """The error form of the API again."""
        rows = [{"path": p.path, "message": p.message, "value": p.value, "remedy": p.remedy} for p in self.problems]
        form: dict[str, Any] = {"code": self.code, "message": self.message, "path": self.path, "remedy": self.remedy}
        return {**form, "request_id": self.request_id, **({"problems": rows} if rows else {})}


class InvalidRequestError(ApiError):
    """The caller must change what it asks for."""

    default_code = "invalid_request"


class InvalidDocumentError(InvalidRequestError):
    """The experiment document is not valid; `problems` has every reason."""

    default_code = "invalid_document"


class NotAuthenticatedError(ApiError):
    """Who you are is not known: log in."""

    default_code = "not_authenticated"


class NotAllowedError(ApiError):
    """You are not permitted to do this."""

    default_code = "not_allowed"


class NotFoundError(ApiError):
    """There is no such thing, or you may not see it."""

    default_code = "not_found"


class ConflictError(ApiError):
    """The state of the thing does not permit this."""

    default_code = "conflict"


class UnavailableError(ApiError):
    """The platform is there, but cannot answer at the moment."""

    default_code = "unavailable"


class RateLimitedError(UnavailableError):
    """Too many requests; `retry_after_s` says when to ask again."""

    default_code = "rate_limited"


class UnreachableError(ApiError):
    """Nothing answers at the address of the platform, or no address is known."""

    default_code = "unreachable"


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: NotAuthenticatedError,
    403: NotAllowedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def error_from(status: int, body: Any, retry_after: str | None = None) -> ApiError:
    """The exception for an answer of status >= 400 with a decoded JSON body (anything else than a mapping: no form).

    An answer without our form does not come from the platform but from the proxy in front of it, which answers 404 or
    500 while the platform starts or restarts: that is an `UnavailableError`.
    """
    wait = _seconds(retry_after)
    if not isinstance(body, Mapping) or "code" not in body:
        if status in {404, 500} or status not in _BY_STATUS:
            return UnavailableError(
                f"the platform is not ready to answer (HTTP status {status})", remedy="try again", retry_after_s=wait
            )
        return _BY_STATUS[status](f"the server answered with HTTP status {status}", retry_after_s=wait)
    kind = InvalidDocumentError if body["code"] == "invalid_document" else _BY_STATUS.get(status, ApiError)
    return kind(
        str(body.get("message") or f"HTTP status {status}"),
        code=str(body["code"]),
        path=str(body.get("path") or ""),
        remedy=str(body.get("remedy") or ""),
        request_id=str(body.get("request_id") or ""),
        problems=[Problem.from_json(row) for row in body.get("problems") or ()],
        retry_after_s=wait,
    )


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None
