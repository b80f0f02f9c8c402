"""One running platform for the whole tier: a real Ray cluster, a real database, and the command as users call it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airavata_scheduler.client import ApiError, Client
from airavata_scheduler.launcher.ports import free_port
from airavata_scheduler.launcher.status import status
from airavata_scheduler.worker import spawner

#: What may break the platform comes last.
_ORDER = (
    "test_main_job", "test_sdk", "test_lifecycle", "test_api", "test_planning", "test_disk", "test_nodes",
    "test_faults", "test_outage",
)  # fmt: skip
_CPUS = 2
#: No GPU is there, and none is needed to share them out.
_MORE = ("--gpus", "2", "--named", "e2e-license=1")
_UP_S = 240.0
_HEALED_S = 150.0
_PROC = Path("/proc")
_SPAWNER = os.fsencode(Path(spawner.__file__))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {name: i for i, name in enumerate(_ORDER)}
    ours = [i for i, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[i] for i in ours), key=lambda item: places.get(item.path.stem, 0))
    for i, item in zip(ours, ordered, strict=True):
        items[i] = item
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_UP_S + 60))


class Platform:
    """One home, driven through the `airavata` command; ``api()`` is for what the command does not show."""

    def __init__(self, home: Path) -> None:
        given = os.environ.get("AIRAVATA")
        self.exe = given or str(Path(sys.executable).with_name("airavata"))
        self.home = home
        self.documents = home.with_name("documents")
        self.documents.mkdir(exist_ok=True)
        self.port = free_port(exclude=set())
        self.experiments: list[str] = []
        self._tokens: dict[tuple[str, str], str] = {}

    # ---------------------------------------------------------------------------------------------- the command

    def environment(self) -> dict[str, str]:
        """Ours without what would lead the command elsewhere."""
        return {key: value for key, value in os.environ.items() if not key.startswith(("AIRAVATA", "RAY_"))}

    def call(self, *args: str, code: int | None = 0, timeout_s: float = 120.0, **more: Any) -> Any:
        """Run the command and check its exit code; standard output and error are text unless ``text`` is false."""
        more = {"text": True, "env": self.environment(), **more}
        command = [self.exe, *args, "--home", str(self.home)]
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, **more)
        if code is not None:
            words = f"airavata {' '.join(args)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == code, words
        assert "Traceback" not in str(done.stderr), done.stderr
        return done

    def json(self, *args: str, code: int | None = 0, timeout_s: float = 120.0, **more: Any) -> Any:
        """The one line of JSON that the command prints."""
        lines = self.call(*args, "--json", code=code, timeout_s=timeout_s, **more).stdout.splitlines()
        assert len(lines) == 1, lines
        return json.loads(lines[0])

    def experiment(self, *args: str, code: int | None = 0, timeout_s: float = 120.0) -> Any:
        """The same for `airavata experiment`."""
        return self.json("experiment", *args, code=code, timeout_s=timeout_s)

    def document(self, text: str) -> str:
        """A file with this text."""
        path = self.documents / f"{len(list(self.documents.iterdir()))}.yml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def submit(self, text: str, *args: str) -> str:
        """Submit a document; the id."""
        found = self.experiment("run", self.document(text), *args)
        self.experiments.append(found["id"])
        return str(found["id"])

    def run(self, text: str, *args: str, code: int = 0, timeout_s: float = 120.0) -> dict[str, Any]:
        """Submit a document and watch it; the last line."""
        found: dict[str, Any] = self.experiment(
            "run", self.document(text), "--watch", *args, code=code, timeout_s=timeout_s
        )
        self.experiments.append(found["id"])
        return found

    def watch(self, experiment: str, code: int = 0, timeout_s: float = 150.0) -> dict[str, Any]:
        """Wait for the end; the last line."""
        found: dict[str, Any] = self.experiment("watch", experiment, code=code, timeout_s=timeout_s)
        return found

    def counts(self, experiment: str) -> dict[str, int]:
        """Tasks of an experiment by state, and in total; through the SDK, as it is asked often."""
        with Client(home=self.home, patience_s=60.0) as client:
            found: dict[str, int] = client.run(experiment).state["tasks"]
        return found

    # -------------------------------------------------------------------------------------- starting and ending

    def up(self) -> dict[str, Any]:
        """Start it, or bring back what is missing."""
        words = ("up", "--http-port", str(self.port), "--cpus", str(_CPUS), *_MORE, "--detach")
        found: dict[str, Any] = self.json(*words, timeout_s=_UP_S)
        return found

    def down(self) -> None:
        self.call("down", timeout_s=60)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("status")
        return found

    def pids(self) -> dict[str, int]:
        """Pids of all long-lived processes by name; the children of Ray's dashboard come and go while it starts."""
        found = [entry for entry in status(self.home)["processes"] if "node_id" not in entry]
        return {entry["name"]: entry["pid"] for entry in found if not entry["name"].startswith("ray.dashboard.")}

    def pid_of(self, name: str) -> int:
        """Of the process whose name begins or ends with this; spawners are listed a little after their executor."""
        found: list[int] = []

        def is_listed() -> bool:
            found[:] = [pid for key, pid in self.pids().items() if key.startswith(name) or key.endswith(name)]
            return bool(found)

        wait_until(is_listed, 20, f"no process is called {name}")
        return found[0]

    def heal(self) -> None:
        """Wait until everything is healthy again."""
        wait_until(lambda: bool(status(self.home)["healthy"]), _HEALED_S, lambda: f"not healthy: {self.status()}")

    def is_rid_of(self, *resources: str) -> None:
        """Wait until nothing on nodes of these resources, which are gone, is missed any more."""
        marks = tuple(f"exec.{resource}." for resource in resources)
        wait_until(lambda: not any(entry["name"].startswith(marks) for entry in self.status()["processes"]), _HEALED_S)
        self.heal()

    # ------------------------------------------------------------------------------------------------ processes

    def tasks_alive(self, *experiments: str) -> list[int]:
        """Processes that belong to tasks of these experiments, of all that were submitted if none is named."""
        wanted = [f"AIRAVATA_EXPERIMENT={name}".encode() for name in experiments or self.experiments]
        return [pid for pid in processes() if any(entry in wanted for entry in environment_of(pid))]

    def of_this_home(self) -> list[int]:
        """Processes that carry the home in their environment; our own are not among them."""
        mark = f"AIRAVATA_HOME={self.home}".encode()
        return [pid for pid in processes() if mark in environment_of(pid)]

    def strays(self) -> list[int]:
        """Executors on this machine that the platform does not know of, and spawners whose executor is gone."""
        known = {entry["pid"] for entry in status(self.home)["processes"]}
        executors = [pid for pid in self.of_this_home() if command_of(pid)[0].startswith(b"ray::Executor")]
        spawners = [(pid, command_of(pid)) for pid in processes()]
        orphans = [pid for pid, words in spawners if _SPAWNER in words and not is_alive(int(words[-1]))]
        return [pid for pid in executors if pid not in known] + orphans

    # ------------------------------------------------------------------------------------------------- the API

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def admin(self) -> dict[str, str]:
        """Name and password of the generated administrator."""
        return {k: v for k, v in json.loads((self.home / "secrets/admin.json").read_text()).items() if k != "url"}

    def login(self, username: str, password: str) -> dict[str, Any]:
        """New tokens of a user; not to be done often, as the platform limits it."""
        body = {"username": username, "password": password}
        found: dict[str, Any] = httpx.post(f"{self.url}/auth/login", json=body, timeout=30).raise_for_status().json()
        return found

    def api(self, username: str | None = None, password: str = "") -> httpx.Client:
        """A client of a user who logs in once; the administrator unless somebody else is named."""
        who = (username, password) if username else (self.admin()["username"], self.admin()["password"])
        if who not in self._tokens:
            self._tokens[who] = self.login(*who)["access_token"]
        headers = {"Authorization": f"Bearer {self._tokens[who]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


def processes() -> list[int]:
    """Every process there is but this one."""
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]


def environment_of(pid: int) -> list[bytes]:
    """The entries of a process's environment; none when it is gone or a zombie."""
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def command_of(pid: int) -> list[bytes]:
    """The words a process was started with; one empty word when it is gone or a zombie."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return [b""]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], limit_s: float, otherwise: Callable[[], str] | str = "") -> None:
    """Wait for a condition that nothing can wake us up for; fails with ``otherwise`` at the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail((otherwise() if callable(otherwise) else otherwise) or f"not within {limit_s:g} s")
        time.sleep(0.1)


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(name="is_alive", scope="session")
def _is_alive() -> Callable[[int], bool]:
    return is_alive


@contextlib.contextmanager
def _running(mounted: str) -> Iterator[Platform]:
    """A platform of its own from start to end, part of whose home is a small disk where that is permitted."""
    root = Path(tempfile.mkdtemp(prefix="airavata-e2e-"))
    platform = Platform(root / "home")
    seen: set[int] = set()
    disk = platform.home / mounted
    is_mounted = _mount(disk)
    try:
        platform.up()
        yield platform
        seen = set(platform.pids().values())
    finally:
        platform.down()
        left = [pid for pid in seen if is_alive(pid)] + platform.of_this_home() + platform.tasks_alive()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    tokens = [path.read_text() for path in (platform.home / "scratch").glob("*/token")]
    groups = [group for token in tokens for group in Path("/sys/fs/cgroup").rglob(f"airavata-{token[:12]}")]
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert tokens
    assert not left + groups, f"`airavata down` left {left + groups}"
    shutil.rmtree(root)


def _mount(path: Path) -> bool:
    """A disk that is small enough to be filled."""
    if os.geteuid() != 0:
        return False
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1g,mode=700", "tmpfs", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def _started() -> Iterator[Platform]:
    with _running("storage") as platform:
        yield platform


@pytest.fixture
def on_a_small_disk() -> Iterator[Platform]:
    """A second platform, all of whose home is on a small disk where that is permitted."""
    with _running("") as platform:
        yield platform


@pytest.fixture
def platform(_started: Platform) -> Iterator[Platform]:
    """The platform, running and idle, whatever the tests before did to it."""
    if not status(_started.home)["healthy"]:
        _started.up()
    yield _started
    with contextlib.suppress(ApiError), Client(home=_started.home) as client:
        for row in client.experiments(status=["RUNNING", "PAUSED"]):
            client.run(row["id"]).cancel("its test has ended")
