"""The spawner: a small single-threaded process that starts tasks and waits for them, for one agent.

Run by path, as process 1 of a PID namespace of its own where that is allowed, so that the kernel ends every process of
every task when the spawner ends for whatever reason. It ends when the agent's end of its socket is closed.

    python -I -S -E -u spawner.py <socket fd> <mode: root | user | plain> <agent's pid>
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from airavata_scheduler.worker import cgroups, kernel, strays
from airavata_scheduler.worker.frames import Decoder, encode
from airavata_scheduler.worker.lane import Lane
from airavata_scheduler.worker.outputs import describe_storage_error, fullest
from airavata_scheduler.worker.recipe import Recipe, find_program
from airavata_scheduler.worker.verdict import FAILED
from airavata_scheduler.worker.warm import make_asynchronous

#: Results wait this long for others, unless the agent is needed to go on.
_FLUSH_S = 0.05
_FLUSH_RESULTS = 64
#: One call waits for ended processes and for sockets, so a task needs no pidfd and no change of an epoll set.
_SIGNALS = (int(signal.SIGCHLD), int(signal.SIGIO))
_SIGNALS_OUTSIDE = (signal.SIGCHLD, signal.SIGTERM)
_LONGEST_WAIT_S = 5.0


class Spawner:
    """The loop over the agent's socket, the processes and the timers."""

    def __init__(self, connection: socket.socket, mode: str) -> None:
        self.in_namespace = mode != "plain"
        self.recipes: dict[int, Recipe] = {}
        self.roots: dict[str, str] = {}
        self.segment_root = self.directory = ""
        self.worker_id = 0
        self.wrapper: list[str] = []
        self.cgroups: dict[str, str] = {}
        self._name = ""
        self._base: dict[str, str] = {}
        self._gpus_on_worker = False
        self._lanes: dict[int, Lane] = {}
        self._connection = connection
        self._decoder = Decoder()
        self._outbox: list[Any] = []
        self._oldest = 0.0
        self._hungry = False

    # -------------------------------------------------------------------------------------------- what lanes need of us

    def emit(self, message: tuple[Any, ...]) -> None:
        """Send to the agent, soon."""
        if not self._outbox:
            self._oldest = time.monotonic()
        self._outbox.append(message)

    def others(self, lane: Lane) -> set[int]:
        """Process ids of what other lanes keep alive."""
        if len(self._lanes) == 1:
            return set()
        pids = set()
        for other in self._lanes.values():
            if other is not lane:
                pids |= {other.pid, other.warm.pid if other.warm else 0}
        return pids - {0}

    # ------------------------------------------------------------------------------------------------------------ loop

    def run(self) -> None:
        """Serve until the agent is gone."""
        make_asynchronous(self._connection)
        self._receive()
        while True:
            if self._outbox:
                self._flush_if_due(time.monotonic())
            self._start_more()  # after the flush, which may have brought orders
            event = signal.sigtimedwait(_SIGNALS, self._wait_s(time.monotonic()))
            if event is not None and event.si_signo == signal.SIGCHLD:
                self._reap()
            else:
                self._receive()

    def _wait_s(self, now: float) -> float:
        """How long nothing has to be done, if nothing happens."""
        due = now + _LONGEST_WAIT_S
        for lane in self._lanes.values():
            due = min(due, lane.tick(now))
        if self._outbox:
            due = min(due, now if self._hungry else self._oldest + _FLUSH_S)
        return max(0.0, due - now)

    def _start_more(self) -> None:
        for lane in self._lanes.values():
            if lane.identity is None and lane.queue:
                lane.start_next()
            if lane.identity is None and lane.busy:
                lane.busy, self._hungry = False, True

    def _flush_if_due(self, now: float) -> None:
        if self._hungry or len(self._outbox) >= _FLUSH_RESULTS or now >= self._oldest + _FLUSH_S:
            data, self._outbox, self._hungry = encode(self._outbox), [], False
            self._connection.sendall(data)
            self._receive()  # many ended processes must not keep us from listening

    def _reap(self) -> None:
        """Collect every ended process; what lanes did not start themselves are orphans, adopted and ended."""
        ended: list[tuple[int, int, resource.struct_rusage]] = []
        nothing_left = False
        try:
            while (one := os.wait4(-1, os.WNOHANG))[0]:
                ended.append(one)
        except ChildProcessError:
            nothing_left = True
        for pid, status, usage in ended:
            for lane in self._lanes.values():
                if lane.leads(pid):
                    lane.exited(status, usage, nothing_left)
                    break

    def _receive(self) -> None:
        for lane in self._lanes.values():
            if lane.warm:
                lane.look_for_answer()
        try:
            data = self._connection.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:
            self._leave()
        for message in self._decoder.feed(data):
            getattr(self, f"_on_{message[0]}")(*message[1:])
        if len(data) == 1 << 18:
            self._receive()

    def _leave(self) -> None:
        """The agent is gone: take everything along."""
        strays.end_everything(self.in_namespace)
        os._exit(0)

    # ---------------------------------------------------------------------------------------------------------- orders

    def _on_configure(self, settings: dict[str, Any]) -> None:
        for name in ("worker_id", "roots", "segment_root", "directory", "wrapper", "cgroups"):
            setattr(self, name, settings[name])
        self._name = settings["name"]
        self._base = settings["base"]
        self._gpus_on_worker = settings["gpus_on_worker"]
        cgroups.bound_processes(self.cgroups, self._name)
        os.makedirs(self.directory, mode=0o700)

    def _on_check(self) -> None:
        codes = tuple(_exit_code(find_program(name, os.defpath)) for name in ("true", "false"))
        self.emit(("checked", os.getpid(), codes))

    def _on_program(self, wire: dict[str, Any]) -> None:
        self.recipes[wire["step_id"]] = Recipe(wire, self._base, self._gpus_on_worker, self.directory)

    def _on_forget(self, step_id: int) -> None:
        self.recipes.pop(step_id).forget()

    def _on_run(self, number: int, gpus: tuple[int, ...], tasks: list[Any]) -> None:
        lane = self._lanes.get(number)
        if lane is None:
            try:
                lane = self._lanes[number] = Lane(self, number, f"{self._name}.{number}")
            except OSError as error:
                self._refuse(number, tasks, error)
                return
        lane.busy = True
        lane.queue += [(task, gpus) for task in tasks]

    def _refuse(self, number: int, tasks: list[Any], error: OSError) -> None:
        cause, message = describe_storage_error(error, fullest(self.segment_root, self.directory))
        for task in tasks:
            outcome = (FAILED, cause, message, None, None, time.time(), 0.0, 0.0, 0, None, None, None, None)
            self.emit(("done", number, task[:3], outcome))
        self._hungry = True

    def _on_cancel(self, identities: list[tuple[int, int, int]]) -> None:
        wanted = set(identities)
        for lane in self._lanes.values():
            lane.cancel(lambda identity: identity in wanted)

    def _on_cancel_steps(self, step_ids: list[int]) -> None:
        wanted = set(step_ids)
        for lane in self._lanes.values():
            lane.cancel(lambda identity: identity[0] in wanted)

    def _on_recall_steps(self, step_ids: list[int]) -> None:
        wanted = set(step_ids)
        for lane in self._lanes.values():
            lane.withdraw(lambda identity: identity[0] in wanted, "given back before it started")


def _exit_code(path: str) -> int:
    pid = os.posix_spawn(path, [path], {}, setsigmask=[], setsigdef=[signal.SIGPIPE])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _enter_namespace(mode: str, connection: socket.socket) -> None:
    """Go on as process 1 of a new PID namespace, while this process stays outside and waits for that one."""
    kernel.leave_namespaces(as_user=mode == "user")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS_OUTSIDE)
    pid = os.fork()
    if pid:
        connection.close()
        _wait_outside(pid)
    kernel.die_with_parent()
    kernel.mount_own_proc()


def _wait_outside(pid: int) -> NoReturn:
    """Wait for process 1 of the namespace, which the kernel lets end after all others in it, and kill it if asked to.

    Whoever wants the namespace gone therefore asks with SIGTERM and waits for us: by SIGKILL we would end before it.
    """
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if signal.sigwait(_SIGNALS_OUTSIDE) == signal.SIGTERM:
            os.kill(pid, signal.SIGKILL)
    os._exit(min(abs(os.waitstatus_to_exitcode(ended[1])), 255))


def main() -> None:
    """Enter the namespace, tell the agent, serve."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    mode = sys.argv[2]
    kernel.die_with_parent()
    if os.getppid() != int(sys.argv[3]):
        os._exit(1)
    if mode == "plain":
        kernel.adopt_orphans()
    else:
        _enter_namespace(mode, connection)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.pthread_sigmask(signal.SIG_SETMASK, _SIGNALS)
    Spawner(connection, mode).run()


if __name__ == "__main__":
    main()
