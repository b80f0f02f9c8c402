"""One slot of a spawner: a queue of attempts of which one runs, its files, its directory, its end.

The next attempt is started in the moment the last one has ended, without asking anybody.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from airavata_scheduler.worker import strays
from airavata_scheduler.worker.cgroups import SlotGroup
from airavata_scheduler.worker.environment import add_task_variables
from airavata_scheduler.worker.outputs import describe_storage_error, fullest
from airavata_scheduler.worker.recipe import Recipe
from airavata_scheduler.worker.segments import Segment
from airavata_scheduler.worker.verdict import CANCELED, FAILED, SUCCEEDED, End, finish_attempt
from airavata_scheduler.worker.warm import IDLE_S, Warm
from airavata_scheduler.worker.workdir import Workdir

Identity = tuple[int, int, int]
Task = tuple[int, int, int, dict[str, Any]]

#: A task that runs longer than this is reported as running.
ANNOUNCE_S = 0.05
CURB_S = 0.1
_NO_ROOM_FOR_A_PROCESS = frozenset({errno.EAGAIN, errno.ENOMEM})
_RESET = [signal.SIGPIPE, signal.SIGXFSZ]


class Host(Protocol):
    """What a lane needs of its spawner."""

    recipes: dict[int, Recipe]
    roots: dict[str, str]
    segment_root: str
    worker_id: int
    directory: str
    in_namespace: bool
    wrapper: list[str]
    cgroups: dict[str, str]

    def emit(self, message: tuple[Any, ...]) -> None: ...
    def others(self, lane: Lane) -> set[int]: ...


class Lane:
    """Slot ``number`` of the spawner ``host``."""

    def __init__(self, host: Host, number: int, name: str) -> None:
        self.host = host
        self.number = number
        self.name = name
        self.queue: deque[tuple[Task, tuple[int, ...]]] = deque()
        self.identity: Identity | None = None
        self.pid = 0
        self.busy = False
        self.warm: Warm | None = None
        self.stdout = Segment(host.segment_root, host.worker_id, name, "out")
        self.stderr = Segment(host.segment_root, host.worker_id, name, "err")
        self._redirections = _redirections(self.stdout, self.stderr)
        self.workdir = Workdir(os.path.join(host.directory, f"slot-{number}"))
        self._group: SlotGroup | None = None
        self._recipe: Recipe
        self._verdict = ""
        self._fresh = True
        self._announced = True
        self._kill_at = self._curb_at = float("inf")
        self._due = 0.0  #: when `tick` has something to do; long past where it has to find out
        self._started = self._started_at = 0.0

    # ------------------------------------------------------------------------------------------------------- starting

    def start_next(self) -> None:
        """Start the first attempt of the queue that can be started."""
        while self.identity is None and self.queue:
            task, gpus = self.queue.popleft()
            self._begin(task)
            try:
                self._start(task, gpus)
            except OSError as error:
                if error.errno in _NO_ROOM_FOR_A_PROCESS:
                    self._give_up("infrastructure", f"no process could be started: {error.strerror}; it is tried again")
                    continue
                place = fullest(self.host.segment_root, self.host.directory)
                self._give_up(*describe_storage_error(error, place))

    def _begin(self, task: Task) -> None:
        self.identity = task[:3]
        self._recipe = self.host.recipes[task[0]]
        self._verdict = ""
        self._announced = False
        self._started = time.monotonic()
        self._started_at = time.time()
        timeout_s = self._recipe.timeout_s
        self._kill_at = self._started + timeout_s if timeout_s is not None else float("inf")
        self._curb_at = self._started + CURB_S
        self._due = min(self._started + ANNOUNCE_S, self._kill_at)

    def _start(self, task: Task, gpus: tuple[int, ...]) -> None:
        recipe = self._recipe
        if self.stdout.full() or self.stderr.full():
            self._rotate()
        if not self._fresh:
            self.workdir.freshen()
        self._fresh = False
        if recipe.script or recipe.parents:
            recipe.prepare(self.workdir.path)
        variables = {} if recipe.python else recipe.environment.copy()
        add_task_variables(variables, task[3], self.workdir.path, recipe.outputs, task[:3])
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = variables["NVIDIA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        if recipe.python:
            self._call(recipe, task[3], variables)
        else:
            if self.warm:
                self._end_warm()
            self._spawn(recipe, variables)

    def _rotate(self) -> None:
        """Go on in new files where the old ones are full."""
        self._end_warm()
        try:
            for segment in (self.stdout, self.stderr):
                if segment.full():
                    segment.rotate()
        finally:
            self._redirections = _redirections(self.stdout, self.stderr)

    def _spawn(self, recipe: Recipe, environment: dict[str, str]) -> None:
        if recipe.limited:
            self._limit(recipe)
        os.fchdir(self.workdir.fd)
        argv = recipe.argv
        try:
            executable = recipe.executable(environment)
            if self.host.wrapper:
                recipe.check(executable)
                argv = [*self.host.wrapper, executable, *argv[1:]]
                executable = argv[0]
            self.pid = os.posix_spawn(
                executable,
                argv,
                environment,
                file_actions=self._redirections,
                setpgroup=0,
                setsigmask=[],
                setsigdef=_RESET,
            )
        except (OSError, ValueError) as error:
            reason = recipe.explain(error, environment) if isinstance(error, OSError) else f"{argv[0]!r}: {error}"
            lacking = isinstance(error, OSError) and error.errno in _NO_ROOM_FOR_A_PROCESS
            self._give_up("infrastructure" if lacking else "environment", reason)
            return
        finally:
            if recipe.limited:
                _data_limit(resource.RLIM_INFINITY)
        if self._group and recipe.limited:
            self._group.enter(self.pid)

    def _limit(self, recipe: Recipe) -> None:
        """A group where groups may be written, else a limit of the data segment, which the task inherits."""
        if self._group is None and self.host.cgroups:
            self._group = SlotGroup(self.host.cgroups, self.name)
        if self._group:
            self._group.prepare(recipe.memory_bytes, recipe.cpu)
        if recipe.memory_bytes and not (self._group and self._group.limits_memory):
            _data_limit(recipe.memory_bytes)

    def _call(self, recipe: Recipe, parameters: Mapping[str, Any], variables: dict[str, str]) -> None:
        key = (recipe.wire["experiment"], tuple(recipe.wire["python_path"]), tuple(sorted(recipe.environment.items())))
        if self.warm is None or self.warm.key != key:
            self._end_warm()
            os.fchdir(self.workdir.fd)
            self.warm = Warm(key, recipe.environment, recipe.wire["python_path"], self.stdout.fd, self.stderr.fd)
        self.pid = self.warm.pid
        if recipe.limited:
            self._limit(recipe)
            _data_limit(resource.RLIM_INFINITY)
            if self._group:
                self._group.enter(self.pid)
        try:
            self.warm.call(recipe.python, parameters, self.workdir.path, variables)
        except OSError:  # it died while idle; its end is seen next and ends the attempt
            return

    # --------------------------------------------------------------------------------------------------------- ending

    def look_for_answer(self) -> None:
        """See whether the warm process has finished its call."""
        warm = self.warm
        answer = warm.answer() if warm else None
        if warm is None or answer is None or self.identity is None:
            return
        warm.idle_since = time.monotonic()
        self._curb()
        left_behind = _descendants_of(warm.pid)
        if left_behind:
            self._end_warm()
        end = End(answer.get("exit_code", 0 if "cause" not in answer else None), None)
        end.cpu_s, end.peak_bytes, end.value = answer["cpu_s"], answer.get("peak", 0), answer.get("value")
        end.cause, end.message = answer.get("cause", ""), answer.get("message", "")
        self._finish(end)

    def leads(self, pid: int) -> bool:
        """Whether this is the process that was started here, and not one of its descendants."""
        return pid == self.pid or (self.warm is not None and pid == self.warm.pid)

    def exited(self, status: int, usage: resource.struct_rusage, nothing_left: bool) -> None:
        """The process ended and was reaped. ``nothing_left``: nobody has any child process any more."""
        pid = self.pid
        if self.warm:
            self._close_warm()
        if self.identity is None:
            return
        if nothing_left and status == 0 and not self._verdict and self._recipe.plain:
            self._succeed(usage)
            return
        if not nothing_left:
            # The number of a group is not given away while it has members, reaped leader or not.
            _kill_group(pid, signal.SIGKILL)
            self._end_strays(self.host.others(self))
        code = os.waitstatus_to_exitcode(status)
        end = End(code if code >= 0 else None, -code if code < 0 else None)
        end.cpu_s = usage.ru_utime + usage.ru_stime
        end.peak_bytes = usage.ru_maxrss * 1024
        self._finish(end)

    def _end_strays(self, others: set[int]) -> None:
        if not others:
            if not strays.no_children_left():
                strays.end_everything(self.host.in_namespace)
            return
        unknown = strays.children() - others
        if unknown and self.identity:
            strays.end_marked("AIRAVATA_TASK={}.{}.{}\0".format(*self.identity), others)
            strays.end_older(unknown, others)
            strays.reap(unknown)

    def _succeed(self, usage: resource.struct_rusage) -> None:
        """What `_finish` does where there is nothing to judge or to collect, as at most ends of a large sweep."""
        wall_s = time.monotonic() - self._started
        cap = self._recipe.cap_bytes
        stdout, stderr = self.stdout.finish(cap), self.stderr.finish(cap)
        cpu_s, peak_bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        outcome = (
            SUCCEEDED, "", "", 0, None, self._started_at, wall_s, cpu_s, peak_bytes, stdout, stderr, None, None,
        )  # fmt: skip
        self._vacate(("done", self.number, self.identity, outcome))

    def _finish(self, end: End) -> None:
        end.verdict = self._verdict
        if self._group and self._recipe.limited:
            end.out_of_memory = self._group.out_of_memory()
            end.peak_bytes = max(end.peak_bytes, self._group.peak_bytes())
        end.started_at = self._started_at
        end.wall_s = time.monotonic() - self._started
        cap = self._recipe.cap_bytes
        end.stdout, end.stderr = self.stdout.finish(cap), self.stderr.finish(cap)
        assert self.identity is not None
        self._vacate(finish_attempt(self, self._recipe, self.identity, end))

    def _vacate(self, message: tuple[Any, ...]) -> None:
        """Tell how the attempt ended, and make room for the next one."""
        self.identity = None
        self.pid = 0
        self._due = 0.0
        self.host.emit(message)
        try:
            self.workdir.freshen()
            self._fresh = True
        except OSError:  # tried again, and reported if need be, when the next attempt starts
            return

    def _give_up(self, cause: str, message: str) -> None:
        """End an attempt that was never started."""
        self._due = 0.0
        identity, self.identity = self.identity, None
        outcome = (FAILED, cause, message, None, None, self._started_at, 0.0, 0.0, 0, None, None, None, None)
        self.host.emit(("done", self.number, identity, outcome))

    # --------------------------------------------------------------------------------------------------------- orders

    def cancel(self, wanted: Callable[[Identity], bool]) -> None:
        """Cancel what is queued or running here and wanted."""
        self.withdraw(wanted, "canceled before it started")
        if self.identity and wanted(self.identity) and not self._verdict:
            self._terminate("canceled", time.monotonic())

    def withdraw(self, wanted: Callable[[Identity], bool], message: str) -> None:
        """Take what is queued here and wanted out again."""
        kept: deque[tuple[Task, tuple[int, ...]]] = deque()
        for task, gpus in self.queue:
            if not wanted(task[:3]):
                kept.append((task, gpus))
                continue
            outcome = (CANCELED, "canceled", message, None, None, 0.0, 0.0, 0.0, 0, *[None] * 4)
            self.host.emit(("done", self.number, task[:3], outcome))
        self.queue = kept

    def _terminate(self, verdict: str, now: float) -> None:
        self._verdict = verdict
        self._due = 0.0
        self._kill_at = now + self._recipe.grace_s
        _kill_group(self.pid, signal.SIGTERM)

    def tick(self, now: float) -> float:
        """Do what is due, and say when to come back."""
        if now >= self._due:
            self._due = self._attend(now)
        return self._due

    def _attend(self, now: float) -> float:
        if self.identity is None:
            if self.warm and now > self.warm.idle_since + IDLE_S:
                self._end_warm()
            return self.warm.idle_since + IDLE_S if self.warm else float("inf")
        if not self._announced and now >= self._started + ANNOUNCE_S:
            self._announced = True
            starts = (self.stdout.start, self.stderr.start)
            running = (self._started_at, self.stdout.key, self.stderr.key, starts)
            self.host.emit(("running", self.number, self.identity, running))
        if now >= self._curb_at:
            self._curb()
            self._curb_at = now + CURB_S
        if now >= self._kill_at:
            self._enforce(now)
        return min(self._curb_at, self._kill_at, now + 1 if self._announced else self._started + ANNOUNCE_S)

    def _enforce(self, now: float) -> None:
        if not self._verdict:
            self._terminate("timeout", now)
            return
        _kill_group(self.pid, signal.SIGKILL)
        self._kill_at = now + 1.0

    def _curb(self) -> None:
        self.stdout.curb(self._recipe.cap_bytes)
        self.stderr.curb(self._recipe.cap_bytes)

    # ----------------------------------------------------------------------------------------------------------- warm

    def _end_warm(self) -> None:
        """End the warm process and everything that it started."""
        if self.warm is None:
            return
        pid = self.warm.pid
        _kill_group(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._close_warm()
        self._end_strays(self.host.others(self))

    def _close_warm(self) -> None:
        assert self.warm is not None
        self.warm.close()
        self.warm = None


def _redirections(stdout: Segment, stderr: Segment) -> list[tuple[int, int, int]]:
    """The file actions of every start."""
    return [(os.POSIX_SPAWN_DUP2, stdout.fd, 1), (os.POSIX_SPAWN_DUP2, stderr.fd, 2)]


def _kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _data_limit(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard) if limit >= 0 else hard, hard))


def _descendants_of(pid: int) -> bool:
    """Whether a process has live children, on any of its threads."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                if file.read().strip():
                    return True
    except OSError:
        return False
    return False
