"""A warm Python process: calls functions on request. Run as a script by the spawner, with the path of its program."""

from __future__ import annotations

import importlib
import json
import os
import resource
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Serve one JSON line after the other until the spawner closes the connection."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    sys.path[:0] = sys.argv[2:]
    clean = dict(os.environ)
    with connection, connection.makefile("rb") as requests:
        for line in requests:
            answer = _serve(json.loads(line), clean)
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(_encode(answer) + b"\n")


def _serve(request: dict[str, Any], clean: dict[str, str]) -> dict[str, Any]:
    os.environ.clear()
    os.environ.update(clean)
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    before = _cpu_s()
    try:
        function = _find(request["function"])
    except Exception as error:  # noqa: BLE001 (a module may raise anything when it is imported)
        traceback.print_exc()
        message = f"{request['function']} could not be imported: {_last_line(error)}; PYTHONPATH is {sys.path[:3]}"
        return {"cause": "environment", "message": message, "cpu_s": _cpu_s() - before}
    try:
        value = function(**request["arguments"])
    except BaseException as error:  # noqa: BLE001 (the user's code may even call sys.exit)
        code = _exit_code(error)
        if code == 0:
            return {"value": None, "cpu_s": _cpu_s() - before, "peak": _peak_bytes()}
        traceback.print_exc()
        message = f"{request['function']} raised {_last_line(error)}"
        return {"cause": "exit_code", "message": message, "exit_code": code, "cpu_s": _cpu_s() - before}
    return {"value": value, "cpu_s": _cpu_s() - before, "peak": _peak_bytes()}


def _find(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is not a function")
    return found  # type: ignore[no-any-return]


def _exit_code(error: BaseException) -> int:
    """What the system would see, had it been a program of its own: of a number, the last eight bits."""
    if not isinstance(error, SystemExit):
        return 1
    return (error.code or 0) & 0xFF if error.code is None or isinstance(error.code, int) else 1


def _encode(answer: dict[str, Any]) -> bytes:
    try:
        return json.dumps(answer).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the return value is not JSON ({error}); return numbers, strings, lists and dictionaries"
        return json.dumps({**answer, "value": None, "cause": "missing_output", "message": message}).encode()


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _cpu_s() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
