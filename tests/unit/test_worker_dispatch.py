from __future__ import annotations

import pytest

from airavata_scheduler.platform.domain.encoding import encode_value
from airavata_scheduler.platform.domain.messages import Batch, Launch, Program
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.worker import verdict
from airavata_scheduler.worker.dispatch import Dispatcher
from airavata_scheduler.worker.frames import Decoder, encode
from airavata_scheduler.worker.gpus import GpuShares
from airavata_scheduler.worker.results import resolve


def batch(step_id: int, count: int, request: Capacity) -> Batch:
    program = Program(step_id, "e", "s", request, command=("true",))
    return Batch({step_id: program}, tuple(Launch(step_id, index, 1) for index in range(count)))


def test_slots_never_hold_more_than_the_capacity() -> None:
    dispatcher = Dispatcher(Capacity(cpu=4, memory_bytes=10), (), 2)
    dispatcher.add(batch(1, 10, Capacity(cpu=1, memory_bytes=4)))
    slots = [assignment.slot for assignment in dispatcher.place()]
    assert len(slots) == 2
    assert {slot.spawner for slot in slots} == {0, 1}
    assert dispatcher.free == Capacity(cpu=2, memory_bytes=2)


def test_short_tasks_are_sent_ahead_and_long_ones_are_not() -> None:
    for wall_s, ahead in ((0.001, True), (10.0, False)):
        dispatcher = Dispatcher(Capacity(cpu=1), (), 1)
        dispatcher.add(batch(1, 100, Capacity()))
        dispatcher.place()
        dispatcher.ended((1, 0, 1), wall_s)
        (assignment,) = dispatcher.place()
        assert (len(assignment.launches) > 1) is ahead


@pytest.mark.parametrize(("wall_s", "most"), [(0.5, 6), (1.0, 3), (2.0, 1), (100.0, 0)])
def test_beside_what_runs_a_moment_of_work_is_kept(wall_s: float, most: int) -> None:
    one = Capacity(cpu=1)
    dispatcher = Dispatcher(Capacity(cpu=2), (), 1)
    dispatcher.add(batch(1, 3, one))
    dispatcher.place()
    dispatcher.ended((1, 0, 1), wall_s)
    dispatcher.place()
    room, _ = dispatcher.wanted()
    assert one.copies_in(room) == most


def test_it_starves_when_a_slot_is_free_and_nothing_waits() -> None:
    one = Capacity(cpu=1)
    dispatcher = Dispatcher(Capacity(cpu=2), (), 1)
    dispatcher.add(batch(1, 3, one))
    dispatcher.place()
    assert not dispatcher.starves(one)
    dispatcher.ended((1, 0, 1), 1.0)
    dispatcher.place()
    assert not dispatcher.starves(one)
    dispatcher.ended((1, 1, 1), 1.0)
    dispatcher.place()
    assert dispatcher.starves(one)


def test_a_lost_spawner_gives_its_room_back() -> None:
    dispatcher = Dispatcher(Capacity(cpu=2), (), 2)
    dispatcher.add(batch(1, 2, Capacity()))
    dispatcher.place()
    assert len(dispatcher.lose_spawner(0)) == 1
    assert dispatcher.free.cpu == 1
    assert dispatcher.held == 1


def test_gpus_are_given_once_and_shared_by_fractions() -> None:
    gpus = GpuShares((0, 1))
    assert gpus.take(1) == (0,)
    assert gpus.take(0.5) == (1,)
    assert gpus.take(1) is None
    assert gpus.take(0.5) == (1,)
    gpus.give_back((0,), 1)
    assert gpus.take(1) == (0,)


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (True, "true"), (1.5, "1.5"), (3, "3"), ([1], "[1]")])
def test_parameters_as_text(value: object, text: str) -> None:
    assert encode_value(value) == text


def test_frames_survive_any_cut() -> None:
    data = encode([("run", 1)]) + encode([("a", {"x": [1.5, None]}), ("b",)])
    decoder = Decoder()
    received = [message for index in range(len(data)) for message in decoder.feed(data[index : index + 1])]
    assert received == [("run", 1), ("a", {"x": [1.5, None]}), ("b",)]


def test_pointers() -> None:
    assert resolve({"a/b": [0, {"~": 7}]}, "/a~1b/1/~0") == 7
    with pytest.raises(LookupError, match="missing"):
        resolve({"there": 1}, "/missing")


def test_the_numbers_of_states_that_spawners_use() -> None:
    assert (verdict.SUCCEEDED, verdict.FAILED, verdict.CANCELED) == (
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.CANCELED,
    )
