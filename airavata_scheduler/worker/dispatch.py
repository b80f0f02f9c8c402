"""Which attempt goes to which slot of which spawner: capacity, GPUs, and how many attempts a slot gets ahead. Pure.

A slot holds a reservation, the request of one kind of task, and works through attempts of that request one after the
other. It is given up when there is nothing more of the kind.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.messages import Batch, Launch, Program
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.worker.gpus import GpuShares

Identity = tuple[int, int, int]

#: A slot gets about so much work ahead, so that it never waits for the agent.
_AHEAD_S = 0.15
_MOST_AHEAD = 256
#: Tasks longer than this are worth the round trip, and better kept where any slot can take them.
_LONG_S = 0.5
#: Work that is kept here beside what runs, so that the slots never wait for the platform.
_PREFETCH_S = 1.5
#: Tasks shorter than this end so often that their reports wait for each other a little longer.
_SHORT_S = 0.03
_PATIENCE_S = 0.05
_PATIENCE_SHORT_S = 0.2
#: The most it holds: a batch costs a transaction and two calls, whatever its size.
MOST_HELD = 1200
_MOST_SLOTS = 512
_SMOOTHING = 0.2


@dataclass(slots=True, eq=False)
class Slot:
    """A reservation at a spawner and the attempts that were sent there."""

    spawner: int
    number: int
    request: Capacity
    gpus: tuple[int, ...]
    sent: set[Identity] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Attempts to send to a slot."""

    slot: Slot
    launches: list[Launch]


class Dispatcher:
    """All that the agent holds, from claim to end."""

    def __init__(self, capacity: Capacity, gpu_ids: tuple[int, ...], spawners: int) -> None:
        self.capacity = capacity
        self.free = capacity
        self.programs: dict[int, Program] = {}
        self._gpus = GpuShares(gpu_ids)
        self._spawners = range(spawners)
        self._waiting: dict[int, deque[Launch]] = {}
        self._slots: list[Slot] = []
        self._place: dict[Identity, Slot] = {}
        self._durations_s: dict[int, float] = {}
        self._mean_s: float | None = None

    @property
    def queued(self) -> int:
        """Attempts that wait here for a slot."""
        return sum(map(len, self._waiting.values()))

    @property
    def held(self) -> int:
        """Attempts that were claimed and have not ended."""
        return self.queued + len(self._place)

    @property
    def running(self) -> int:
        """Slots that have something to do."""
        return sum(1 for slot in self._slots if slot.sent)

    def add(self, batch: Batch) -> None:
        """Take in the answer to a claim."""
        self.programs.update(batch.programs)
        for launch in batch.launches:
            self._waiting.setdefault(launch.step_id, deque()).append(launch)

    def wanted(self) -> tuple[Capacity, int]:
        """What to claim: room for that many tasks at one time (prefetch included), and the most tasks."""
        parallel = max(1.0, self.capacity.cpu, float(self.running))
        factor = 1.0
        if self._mean_s is not None:
            factor = min(1.0 + _PREFETCH_S / max(self._mean_s, 1e-4), max(1.0, MOST_HELD / parallel))
        room = _scaled(self.capacity, factor)
        for request, count in self._held_requests():
            room = room.plus(request, -count)
        room = _scaled(room, 1.0)
        # A claim costs a transaction: with much prefetched it waits until it is worth it.
        enough = 0.5 * factor * self.capacity.cpu if factor >= 2 else 1e-9
        return room, max(0, MOST_HELD - self.held) if room.cpu >= min(enough, self.capacity.cpu * factor) else 0

    def starves(self, request: Capacity) -> bool:
        """Whether another task like that could run if only one was here."""
        return not self._waiting and request.fits_in(self.free)

    def patience_s(self) -> float:
        """How long the end of a task may wait for others to be reported with: many short ones share a transaction."""
        return _PATIENCE_S if self._mean_s is None or self._mean_s > _SHORT_S else _PATIENCE_SHORT_S

    def place(self) -> list[Assignment]:
        """Assignments for everything that can be sent now."""
        given: dict[Slot, list[Launch]] = {}
        self._fill(given, lambda slot, _: not slot.sent)
        self._release_idle()
        self._open(given)
        self._fill(given, lambda slot, ahead: len(slot.sent) < ahead)
        for step_id in [step_id for step_id, queue in self._waiting.items() if not queue]:
            del self._waiting[step_id]
        return [Assignment(slot, launches) for slot, launches in given.items()]

    def identities(self) -> list[Identity]:
        """Every attempt that waits here or was sent to a spawner."""
        waiting = [
            (launch.step_id, launch.index, launch.attempt) for queue in self._waiting.values() for launch in queue
        ]
        return [*waiting, *self._place]

    def ended(self, identity: Identity, wall_s: float | None) -> Slot | None:
        """Note the end of an attempt. None if it is not known (any more). ``wall_s`` is None if it did not run."""
        slot = self._place.pop(identity, None)
        if slot is None:
            return None
        slot.sent.discard(identity)
        if wall_s is not None:
            self._learn(identity[0], wall_s)
        return slot

    def lose_spawner(self, spawner: int) -> list[tuple[Identity, tuple[int, ...]]]:
        """Forget the slots of a spawner that died; what was sent there, with its GPUs."""
        lost = []
        for slot in [slot for slot in self._slots if slot.spawner == spawner]:
            lost += [(identity, slot.gpus) for identity in slot.sent]
            for identity in slot.sent:
                del self._place[identity]
            self._release(slot)
        return lost

    def withdraw(self, wanted: Callable[[Identity], bool]) -> list[Identity]:
        """Take waiting attempts out again."""
        gone: list[Identity] = []
        for step_id, queue in self._waiting.items():
            chosen = [launch for launch in queue if wanted(_identity(launch))]
            if chosen:
                gone += map(_identity, chosen)
                self._waiting[step_id] = deque(launch for launch in queue if not wanted(_identity(launch)))
        return gone

    def idle_steps(self) -> list[int]:
        """Steps whose programs nobody needs at present."""
        busy = {identity[0] for identity in self._place} | {
            step_id for step_id, queue in self._waiting.items() if queue
        }
        return [step_id for step_id in self.programs if step_id not in busy]

    def forget(self, step_ids: Iterable[int]) -> None:
        for step_id in step_ids:
            self.programs.pop(step_id, None)
            self._durations_s.pop(step_id, None)

    # ------------------------------------------------------------------------------------------------------- internals

    def _fill(self, given: dict[Slot, list[Launch]], hungry: Callable[[Slot, int], bool]) -> None:
        for step_id, queue in self._waiting.items():
            request = self.programs[step_id].request
            slots = [slot for slot in self._slots if slot.request == request]
            ahead = self._ahead(step_id)
            chosen = [slot for slot in slots if hungry(slot, ahead)]
            share = math.ceil(len(queue) / len(chosen)) if chosen else 0
            for slot in chosen:
                for _ in range(min(share, ahead - len(slot.sent), len(queue))):
                    self._send(slot, queue.popleft(), given)

    def _open(self, given: dict[Slot, list[Launch]]) -> None:
        for step_id, queue in self._waiting.items():
            request = self.programs[step_id].request
            while queue and len(self._slots) < _MOST_SLOTS and request.fits_in(self.free):
                gpus = self._gpus.take(request.gpu)
                if gpus is None:
                    break
                slot = self._new_slot(request, gpus)
                self._send(slot, queue.popleft(), given)

    def _new_slot(self, request: Capacity, gpus: tuple[int, ...]) -> Slot:
        taken: dict[int, set[int]] = {spawner: set() for spawner in self._spawners}
        for slot in self._slots:
            taken[slot.spawner].add(slot.number)
        spawner = min(taken, key=lambda one: len(taken[one]))
        number = next(number for number in range(_MOST_SLOTS) if number not in taken[spawner])
        slot = Slot(spawner, number, request, gpus)
        self._slots.append(slot)
        self.free = self.free.plus(request, -1)
        return slot

    def _send(self, slot: Slot, launch: Launch, given: dict[Slot, list[Launch]]) -> None:
        identity = _identity(launch)
        slot.sent.add(identity)
        self._place[identity] = slot
        given.setdefault(slot, []).append(launch)

    def _release_idle(self) -> None:
        for slot in [slot for slot in self._slots if not slot.sent]:
            self._release(slot)

    def _release(self, slot: Slot) -> None:
        self._slots.remove(slot)
        self.free = self.free.plus(slot.request)
        self._gpus.give_back(slot.gpus, slot.request.gpu)

    def _ahead(self, step_id: int) -> int:
        duration_s = self._durations_s.get(step_id)
        if duration_s is None or duration_s > _LONG_S:
            return 1
        return min(_MOST_AHEAD, 2 + int(_AHEAD_S / max(duration_s, 1e-5)))

    def _learn(self, step_id: int, wall_s: float) -> None:
        known = self._durations_s.get(step_id, wall_s)
        self._durations_s[step_id] = known + _SMOOTHING * (wall_s - known)
        mean = wall_s if self._mean_s is None else self._mean_s
        self._mean_s = mean + _SMOOTHING * (wall_s - mean)

    def _held_requests(self) -> list[tuple[Capacity, int]]:
        counts: dict[int, int] = {step_id: len(queue) for step_id, queue in self._waiting.items()}
        held = [(self.programs[step_id].request, count) for step_id, count in counts.items()]
        return held + [(slot.request, len(slot.sent)) for slot in self._slots]


def _identity(launch: Launch) -> Identity:
    return (launch.step_id, launch.index, launch.attempt)


def _scaled(capacity: Capacity, factor: float) -> Capacity:
    """``factor`` times as much of everything, and nothing below 0."""
    return Capacity(
        cpu=max(0.0, capacity.cpu * factor),
        memory_bytes=max(0, int(capacity.memory_bytes * factor)),
        gpu=max(0.0, capacity.gpu * factor),
        disk_bytes=max(0, int(capacity.disk_bytes * factor)),
        named={name: max(0.0, amount * factor) for name, amount in capacity.named.items()},
    )
