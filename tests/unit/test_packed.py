"""What is packed comes out equal, with its types."""

from __future__ import annotations

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Batch, Extent, Launch, Output, Program, Report
from airavata_scheduler.platform.domain.packed import pack_batch, pack_reports, unpack_batch, unpack_reports
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState


def test_reports_come_out_as_they_went_in() -> None:
    reports = [
        Report(1, 2, 3, TaskState.RUNNING, started_at=4.5, stdout=Extent("a", 5, 0), stderr=Extent("b", 6, 0)),
        Report(1, 3, 1, TaskState.FAILED, Cause.TIMEOUT, "too long", None, 15, 4.5, 1.5, 0.5, 7, (0, 1)),
        Report(
            1, 4, 1, TaskState.SUCCEEDED, exit_code=0, outputs=(Output("O", "k", 8, "ff"),), results={"x": [1, None]}
        ),
    ]
    unpacked = unpack_reports(pack_reports(reports))
    assert unpacked == reports
    assert [(type(r.state), type(r.cause)) for r in unpacked] == [(type(r.state), type(r.cause)) for r in reports]
    assert isinstance(unpacked[0].stdout, Extent)
    assert isinstance(unpacked[2].outputs[0], Output)


def test_a_batch_comes_out_as_it_went_in() -> None:
    program = Program(1, "e", "s", Capacity(cpu=1), command=("true",))
    batch = Batch({1: program}, (Launch(1, 0, 1, {"X": 1.5, "Y": "z"}), Launch(1, 1, 2)))
    unpacked = unpack_batch(*pack_batch(batch))
    assert unpacked == batch
    assert isinstance(unpacked.launches[1], Launch)
    assert unpack_batch(*pack_batch(Batch())) == Batch()
