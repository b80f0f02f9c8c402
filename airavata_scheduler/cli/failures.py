"""The one place where exceptions become exit codes and words."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from airavata_scheduler.client import errors

EXIT_CODES = {
    0: "done",
    1: "error",
    2: "usage: an option or argument is wrong, here or in the eyes of the platform",
    3: "not authenticated, or not allowed",
    4: "the platform cannot be reached, or cannot answer now",
    5: "not found",
    6: "the experiment document is not valid",
    7: "the experiment has finished with failures, or was canceled",
    130: "interrupted with Ctrl-C; experiments go on",
}
FINISHED_WITH_FAILURES = 7
INTERRUPTED = 130

_BY_KIND: tuple[tuple[type[Exception], int], ...] = (
    (errors.InvalidDocumentError, 6),
    (errors.InvalidRequestError, 2),
    (errors.NotAuthenticatedError, 3),
    (errors.NotAllowedError, 3),
    (errors.NotFoundError, 5),
    (errors.UnavailableError, 4),
    (errors.UnreachableError, 4),
)


def exit_code(error: BaseException) -> int:
    """The exit code that an error of ours stands for; 1 for every other one."""
    return next((code for kind, code in _BY_KIND if isinstance(error, kind)), 1)


def report(error: Exception, *, as_json: bool) -> int:
    """Say on standard error what is wrong (and with --json in one line on standard output); the exit code."""
    if os.environ.get("AIRAVATA_DEBUG"):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, errors.ApiError):
        _print_api_error(error)
        form = error.to_json()
    else:
        message = _words(error)
        print(f"Error: {message}", file=sys.stderr)
        form = _form("error", message)
    if as_json:
        _print_json(form)
    return exit_code(error)


def report_usage(error: Any, *, as_json: bool) -> int:
    """The same for what the parser of options and arguments does not understand."""
    error.show()
    if as_json:
        _print_json(_form("usage", error.format_message()))
    return int(getattr(error, "exit_code", 2))


def _form(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "path": "", "remedy": "", "request_id": ""}


def _print_json(form: dict[str, Any]) -> None:
    print(json.dumps({"error": form}, separators=(",", ":")), flush=True)


def _words(error: Exception) -> str:
    problems: Any = getattr(error, "problems", None)
    if isinstance(problems, list) and problems:
        return "\n  ".join(str(problem) for problem in problems)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, RuntimeError | ValueError | TypeError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (AIRAVATA_DEBUG=1 shows where)"


def _print_api_error(error: errors.ApiError) -> None:
    if not error.problems:
        place = f" (at {error.path})" if error.path and error.path not in error.message else ""
        print(f"Error: {error.message}{place}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
    else:
        what = "document" if isinstance(error, errors.InvalidDocumentError) else "request"
        n = len(error.problems)
        print(f"The {what} is not valid: {n} problem{'s' if n > 1 else ''}", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem.path + ': ' if problem.path else ''}{problem.message}", file=sys.stderr)
            if problem.value:
                print(f"      found:  {problem.value}", file=sys.stderr)
            if problem.remedy:
                print(f"      remedy: {problem.remedy}", file=sys.stderr)
    if error.request_id and exit_code(error) == 1:
        print(f"  request {error.request_id}", file=sys.stderr)
