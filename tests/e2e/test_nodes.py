"""Two more Ray nodes, each in a network namespace of its own: they join, are drained, cut off, healed, killed."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Platform

pytestmark = pytest.mark.optional("network namespaces need root and the program ip, which CI may lack")

#: Ray notices after about 10 s, the lease of a worker ends after 10 s and is looked at every 3 s.
_NOTICED_S = 60.0
_JOINED_S = 90.0
#: Shorter than whatever counts a node as lost.
_BLINK_S = 4.0
_DOCUMENT = """
name: "{name}"
scripts: {{work: 'sleep {seconds}; echo "$I" > "$OUT"'}}
tasks: {{work: {{script: work, task_inputs: {{I: 1..{n}}}, task_outputs: {{OUT: out.txt}}}}}}
"""

Wait = Callable[..., None]


def _ip(*words: str, check: bool = True) -> str:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=30).stdout


class Machine:
    """A network namespace with one link to this machine, and a Ray node in it."""

    def __init__(self, platform: Platform, number: int) -> None:
        self._platform = platform
        self.name = f"airavata-{os.getpid()}-{number}"
        self._link = f"av{os.getpid()}x{number}"
        network = ipaddress.ip_network(f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}.{4 * number}/30")
        here, self.address = (str(host) for host in network.hosts())
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{here}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/30", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", self.name, "link", "set", device, "up")
        _ip("-n", self.name, "route", "add", "default", "via", here)

    @property
    def resource(self) -> str:
        return f"node-{self.address}"

    def join(self) -> None:
        """Start a Ray node that joins the platform's cluster, as docs say it is done."""
        head = json.loads((self._platform.home / "run/ray.json").read_text())["address"]
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._platform.home / "secrets/ray_token")}
        words = ["start", f"--address={head}", f"--node-ip-address={self.address}", "--num-cpus=1"]
        words += ["--disable-usage-stats", "--include-log-monitor=false", "--object-store-memory=80000000"]
        command = ["ip", "netns", "exec", self.name, str(Path(sys.executable).with_name("ray")), *words]
        environment = {**self._platform.environment(), **token}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr

    def cut(self) -> None:
        _ip("link", "set", self._link, "down")

    def heal(self) -> None:
        _ip("link", "set", self._link, "up")

    def processes(self) -> list[int]:
        return [int(pid) for pid in _ip("netns", "pids", self.name, check=False).split()]

    def commands(self) -> list[str]:
        """What runs in it."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_text())
        return found

    def kill(self) -> None:
        """End everything in it at once."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        self.kill()
        _ip("netns", "del", self.name, check=False)
        _ip("link", "del", self._link, check=False)

    def live(self) -> list[int]:
        """Ids of the workers on this node that the platform counts on."""
        rows = self._platform.json("worker", "list")["items"]
        return [row["id"] for row in rows if row["resource"] == self.resource and row["state"] == "live"]

    def running(self, experiment: str, state: str = "running") -> list[int]:
        """Indexes of the tasks that run on this node; of short ones most are only known to be `assigned`."""
        rows = self._platform.experiment("tasks", experiment, "--state", state, "--limit", "500")["items"]
        return [row["index"] for row in rows if row["resource"] == self.resource]


@pytest.fixture(scope="module")
def machines(_started: Platform) -> Iterator[list[Machine]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip")
    head = json.loads((_started.home / "run/ray.json").read_text())["address"].rpartition(":")[0]
    if ipaddress.ip_address(head).is_loopback:
        pytest.skip("the Ray head has only a loopback address, which no other machine reaches")
    made: list[Machine] = []
    try:
        made += [Machine(_started, number) for number in range(2)]
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network namespace cannot be made here: {error.stderr}")
    finally:
        for machine in made:
            machine.remove()
        if made:
            _started.is_rid_of(*(machine.resource for machine in made))


@pytest.fixture
def joined(platform: Platform, machines: list[Machine], wait_until: Wait) -> list[Machine]:
    """The nodes with executors that nobody started."""
    missing = [machine for machine in machines if not machine.live()]
    for machine in missing:
        machine.kill()
        machine.join()
    wait_until(lambda: all(machine.live() for machine in missing), _JOINED_S)
    return machines


def _check(platform: Platform, experiment: str, folder: Path, n: int) -> list[str]:
    """Each output once and right; the resources that the tasks ran on."""
    end = platform.watch(experiment)
    assert (end["status"], end["tasks"]["succeeded"], end["tasks"]["total"]) == ("SUCCEEDED", n, n)
    outputs = platform.experiment("outputs", experiment, "--limit", str(2 * n))["items"]
    assert Counter(row["index"] for row in outputs) == Counter(range(n))
    platform.experiment("download", experiment, "--output", str(folder))
    assert {int(p.parent.name): p.read_text() for p in folder.rglob("out.txt")} == {i: f"{i + 1}\n" for i in range(n)}
    return [row["resource"] for row in platform.experiment("results", experiment)["items"]]


def test_nodes_join_while_a_sweep_runs(
    platform: Platform, machines: list[Machine], tmp_path: Path, wait_until: Wait
) -> None:
    # Long enough to be still running when the nodes have joined, however slow the machine is.
    sweep = platform.submit(_DOCUMENT.format(name="join", n=2000, seconds=0.5))
    for machine in machines:  # one after the other: two starts beside a sweep are too much for a small machine
        machine.join()
    wait_until(lambda: all(machine.live() for machine in machines), _JOINED_S)
    wait_until(lambda: all(machine.running(sweep) for machine in machines), _JOINED_S)
    platform.call("experiment", "cancel", sweep)
    n = 60
    experiment = platform.submit(_DOCUMENT.format(name="joined", n=n, seconds=0.5))
    used = {"local", *(machine.resource for machine in machines)}
    assert used == set(_check(platform, experiment, tmp_path / "out", n))
    platform.heal()


def test_node_that_is_drained_finishes_what_it_has(
    platform: Platform, joined: list[Machine], tmp_path: Path, wait_until: Wait
) -> None:
    n, leaving = 30, joined[1]
    experiment = platform.submit(_DOCUMENT.format(name="drain", n=n, seconds=1))
    wait_until(lambda: bool(leaving.running(experiment)), 60)
    platform.call("resource", "update", leaving.resource, "--disable")
    (worker,) = leaving.live()
    platform.call("worker", "drain", str(worker))
    wait_until(lambda: worker not in leaving.live() and not leaving.running(experiment), 60)
    assert leaving.resource in _check(platform, experiment, tmp_path / "out", n)
    attempts = {row["attempt"] for row in platform.experiment("results", experiment)["items"]}
    assert attempts == {1}, "nothing was taken from it"
    platform.call("resource", "update", leaving.resource, "--enable")


def test_node_that_is_cut_off_loses_its_tasks(
    platform: Platform, joined: list[Machine], tmp_path: Path, wait_until: Wait
) -> None:
    n, lost = 2000, joined[0]
    experiment = platform.submit(_DOCUMENT.format(name="cut", n=n, seconds=0.02))
    wait_until(lambda: bool(lost.running(experiment, "assigned")), 60)
    lost.cut()
    try:
        assert platform.counts(experiment)["succeeded"] < n / 2, "it was nearly over: make it longer"
        wait_until(lambda: not lost.live(), _NOTICED_S)
        _check(platform, experiment, tmp_path / "out", n)
        # What could not be told to stop has stopped by itself.
        wait_until(lambda: not platform.tasks_alive(experiment), _NOTICED_S)
    finally:
        lost.heal()
    # Ray gives up for good whom it has missed: the node hears of that when it is heard again, and ends.
    wait_until(lambda: not lost.processes(), _NOTICED_S, lambda: f"still there: {lost.commands()}")
    # It may have registered anew meanwhile, only to be lost once more.
    wait_until(lambda: not lost.live(), _NOTICED_S)
    platform.heal()
    assert platform.counts(experiment)["succeeded"] == n


def test_node_that_is_cut_off_for_a_moment_goes_on(
    platform: Platform, joined: list[Machine], tmp_path: Path, wait_until: Wait
) -> None:
    n, lost = 600, joined[0]
    worker = lost.live()
    experiment = platform.submit(_DOCUMENT.format(name="blink", n=n, seconds=0.05))
    wait_until(lambda: bool(lost.running(experiment, "assigned")), 60)
    until = time.monotonic() + _BLINK_S
    lost.cut()
    try:
        wait_until(lambda: time.monotonic() > until, 2 * _BLINK_S)
    finally:
        lost.heal()
    assert lost.resource in _check(platform, experiment, tmp_path / "out", n)
    platform.heal()
    assert lost.live() == worker
    attempts = {row["attempt"] for row in platform.experiment("results", experiment)["items"]}
    assert attempts == {1}, "nothing was taken from it"


def test_node_comes_back_and_is_killed(
    platform: Platform, joined: list[Machine], tmp_path: Path, wait_until: Wait
) -> None:
    n, lost = 20, joined[0]
    experiment = platform.submit(_DOCUMENT.format(name="kill", n=n, seconds=1))
    wait_until(lambda: bool(lost.running(experiment)), 60)
    lost.kill()
    wait_until(lambda: not lost.live(), _NOTICED_S)
    resources = _check(platform, experiment, tmp_path / "out", n)
    assert "local" in resources
    platform.heal()
    assert not platform.tasks_alive(experiment)
