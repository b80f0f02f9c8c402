"""Every error that the platform raises on purpose. Standard library only (workers import it).

::

    AiravataError
    ├── InvalidRequestError       invalid_request     the caller must change what it asks for
    │   └── InvalidDocumentError  invalid_document    an experiment document, with all of its problems
    ├── NotFoundError             not_found
    ├── ConflictError             conflict            the thing is in a state that forbids it
    │   ├── KeyReusedError        idempotency_key_reused  the key stands for another request
    │   ├── LeaseLostError        lease_lost          somebody else holds the lease now: stop at once
    │   └── StaleError            stale               the report belongs to an attempt that no longer counts
    ├── NotAuthenticatedError     not_authenticated
    ├── NotAllowedError           not_allowed
    └── UnavailableError          unavailable         try again after ``retry_after_s``
        └── RateLimitedError      rate_limited

All of them survive pickling, so they may cross process boundaries.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


class AiravataError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"  #: Machine readable, part of the API.

    def __init__(self, message: str = "", *, path: str = "", remedy: str = "", retryable: bool = False) -> None:
        """Keep what a person needs: what happened (``message``), where (``path``) and what to do (``remedy``)."""
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(self.message)
        self.path = path
        self.remedy = remedy
        self.retryable = retryable  #: Whether the same request may succeed later without a change.

    def __str__(self) -> str:
        """The message alone; the remedy is for whoever shows it."""
        return self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one place of a document or request."""

    path: str  #: For example ``tasks.work.task_inputs.X``; empty for the whole.
    message: str
    value: str = ""  #: The value as it was found, shortened.
    remedy: str = ""

    def __str__(self) -> str:
        """One line for a person."""
        place = f"{self.path}: " if self.path else ""
        hint = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.message}{hint}"

    def to_json(self) -> dict[str, str]:
        """As the API shows it."""
        return asdict(self)


def shorten(value: Any) -> str:
    """``repr`` of a value, at most some 80 characters of it."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    return short.repr(value)[:120]


class InvalidRequestError(AiravataError):
    """The request is not valid."""

    code = "invalid_request"


class InvalidDocumentError(InvalidRequestError):
    """The experiment document is not valid."""

    code = "invalid_document"

    def __init__(self, problems: Sequence[Problem]) -> None:
        """``problems`` are all that were found, in the order of the document; at least one."""
        self.problems = tuple(problems)
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        place = f"{first.path}: " if first.path else ""
        super().__init__(f"{place}{first.message}{more}", path=first.path, remedy=first.remedy)
        self.args = (self.problems,)


class NotFoundError(AiravataError):
    """There is no such thing, or you may not see it."""

    code = "not_found"


class ConflictError(AiravataError):
    """The state of the thing does not permit this."""

    code = "conflict"


class KeyReusedError(ConflictError):
    """The idempotency key was used before, for another request."""

    code = "idempotency_key_reused"


class LeaseLostError(ConflictError):
    """The lease is held by somebody else now."""

    code = "lease_lost"


class StaleError(ConflictError):
    """The report belongs to an attempt that no longer counts."""

    code = "stale"


class NotAuthenticatedError(AiravataError):
    """Who you are is not known: log in."""

    code = "not_authenticated"


class NotAllowedError(AiravataError):
    """You are not permitted to do this."""

    code = "not_allowed"


class UnavailableError(AiravataError):
    """Something that is needed cannot be reached at the moment."""

    code = "unavailable"

    def __init__(self, message: str = "", *, retry_after_s: float = 1.0, path: str = "", remedy: str = "") -> None:
        """``retry_after_s``: seconds after which another try makes sense."""
        super().__init__(message, path=path, remedy=remedy, retryable=True)
        self.retry_after_s = retry_after_s


class RateLimitedError(UnavailableError):
    """Too many requests."""

    code = "rate_limited"
