"""Unit tests touch no network and no Ray: whatever tries fails, with the name of what it tried.

The guard is on while a module of this directory is imported and while one of its tests runs, and off otherwise, so that
all tiers may be run by one `pytest tests`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

import psycopg
import pytest

# Helper modules beside the tests, as `import service_bench`.
sys.path.insert(0, str(Path(__file__).parent))

#: Raised by CPython itself for every socket, whichever library opened it; `socketpair`, which asyncio and
#: multiprocessing use to talk to themselves, raises none of them.
NETWORK_EVENTS = frozenset(
    {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}
)
FORBIDDEN_PACKAGES = frozenset({"ray", "grpc"})


class ForbiddenInUnitTestsError(RuntimeError):
    """A unit test reached for something outside its process."""


class Guard:
    """Turned on and off; installed once, because an audit hook cannot be removed."""

    def __init__(self) -> None:
        self.on = False

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in NETWORK_EVENTS:
            _refuse(f"{event}{tuple(a for a in arguments if not isinstance(a, socket.socket))}")

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Part of an import finder (sys.meta_path): finds nothing, refuses what unit tests may not have."""
        if self.on and name.partition(".")[0] in FORBIDDEN_PACKAGES:
            _refuse(f"import {name}")
        return None

    @contextmanager
    def watching(self) -> Generator[None]:
        with ExitStack() as patches:
            # libpq opens its sockets in C, where no audit event is raised.
            for owner in (psycopg, psycopg.Connection, psycopg.AsyncConnection):
                patches.enter_context(mock.patch.object(owner, "connect", _no_database))
            if ray := sys.modules.get("ray"):  # imported by another tier in the same run
                patches.enter_context(mock.patch.object(ray, "init", _no_ray))
            before, self.on = self.on, True
            try:
                yield
            finally:
                self.on = before


def _refuse(what: str) -> NoReturn:
    message = f"{what}: a unit test may not; use a fake of the port, or move the test to tests/integration"
    raise ForbiddenInUnitTestsError(message)


def _no_database(*_: object, **__: object) -> NoReturn:
    _refuse("psycopg.connect")


def _no_ray(*_: object, **__: object) -> NoReturn:
    _refuse("ray.init")


HERE = Path(__file__).parent
guard = Guard()
sys.addaudithook(guard.audit)
sys.meta_path.insert(0, guard)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    with _watched(collector):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    with _watched(item):
        return (yield)


def _watched(node: pytest.Item | pytest.Collector) -> AbstractContextManager[None]:
    """Not every hook is confined to the directory of its conftest: pytest_runtest_protocol is called for all tiers."""
    return guard.watching() if node.path.is_relative_to(HERE) else nullcontext()
