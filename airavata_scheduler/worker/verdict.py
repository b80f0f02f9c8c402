"""What the end of an attempt means: state, cause and a message for people; outputs and results if it went well."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any

from airavata_scheduler.worker import outputs, results
from airavata_scheduler.worker.outputs import CollectError, Identity
from airavata_scheduler.worker.recipe import Recipe

if TYPE_CHECKING:
    from airavata_scheduler.worker.lane import Lane
    from airavata_scheduler.worker.segments import Piece

# TaskState's numbers: importing it would bring enum and dataclasses into every spawner. A test compares them.
SUCCEEDED, FAILED, CANCELED = 6, 7, 9

#: Outputs up to this size are hashed by the spawner itself; more would keep the slots waiting.
_INLINE_BYTES = 4 * 1024 * 1024
#: An allocation fails a little before the limit is reached.
_NEAR_LIMIT = 0.85


class End:
    """How a process ended; filled in by the lane."""

    __slots__ = (
        "cause", "cpu_s", "exit_code", "message", "out_of_memory", "peak_bytes", "signal", "started_at", "stderr",
        "stdout", "value", "verdict", "wall_s",
    )  # fmt: skip

    def __init__(self, exit_code: int | None, signal: int | None) -> None:
        self.exit_code = exit_code
        self.signal = signal
        self.cause = self.message = self.verdict = ""
        self.out_of_memory = False
        self.cpu_s = self.wall_s = self.started_at = 0.0
        self.peak_bytes = 0
        self.stdout: Piece | None = None
        self.stderr: Piece | None = None
        self.value: Any = None


def finish_attempt(lane: Lane, recipe: Recipe, identity: Identity, end: End) -> tuple[Any, ...]:
    """The message to the agent. May move the working directory away for the agent to collect."""
    places = lane.host.segment_root, lane.host.directory
    cause, message = judge(recipe, end, places)
    if cause or not recipe.collects:
        return ("done", lane.number, identity, outcome(end, cause, message))
    root = lane.host.roots[recipe.wire["storage"]]
    directory = lane.workdir.path
    try:
        outputs.require_outputs(directory, recipe.outputs)
        values = results.extract(recipe.results, lambda source: _read_source(lane, recipe, end, source))
        if outputs.collected_size_bytes(directory, recipe.outputs, _INLINE_BYTES) >= _INLINE_BYTES:
            aside = os.path.join(lane.host.directory, "collect-{}.{}.{}".format(*identity))
            lane.workdir.move_to(aside)
            return ("collect", lane.number, identity, (*outcome(end, "", "")[:-1], values or None), aside)
        published = (
            outputs.collect(directory, recipe.wire, identity, root, lane.host.worker_id) if recipe.outputs else None
        )
    except CollectError as error:
        full = _full(places) if error.cause == "missing_output" else None
        return ("done", lane.number, identity, outcome(end, *(full or (error.cause, str(error)))))
    except OSError as error:
        return ("done", lane.number, identity, outcome(end, *outputs.describe_storage_error(error, root)))
    except Exception as error:  # noqa: BLE001 (what a task left behind must not end the spawner, and its neighbours)
        message = f"outputs could not be collected: {type(error).__name__}: {error}"
        return ("done", lane.number, identity, outcome(end, "staging", message))
    return ("done", lane.number, identity, (*outcome(end, "", "")[:-2], published, values or None))


def judge(recipe: Recipe, end: End, places: tuple[str, str]) -> tuple[str, str]:
    """Cause and message of a failure; empty texts if the program ended well."""
    if end.exit_code == 0 and not (end.verdict or end.cause):
        return "", ""
    if end.verdict == "canceled":
        return "canceled", "canceled while it ran"
    if end.verdict == "timeout":
        return "timeout", f"ran longer than its timeout of {recipe.timeout_s} s; raise `timeout` or make it faster"
    if end.cause:
        return end.cause, end.message
    if _lacked_memory(recipe, end):
        used = f"peak {end.peak_bytes} bytes of {recipe.memory_bytes}"
        return "out_of_memory", f"ran out of memory ({used}); raise `resources.memory`"
    full = _full(places)
    if full:
        return full
    if end.signal is not None:
        return "exit_code", f"ended by signal {end.signal}"
    return "exit_code", f"ended with exit code {end.exit_code}"


def _full(places: tuple[str, str]) -> tuple[str, str] | None:
    """Cause and message if one of the places that a task writes to is full."""
    place = outputs.fullest(*places)
    return (
        ("infrastructure", outputs.disk_full_message(place)) if outputs.free_bytes(place) < outputs.FULL_BYTES else None
    )


def outcome(end: End, cause: str, message: str) -> tuple[Any, ...]:
    """Fields as in `wire.OUTCOME_FIELDS`, without outputs and results."""
    state = CANCELED if cause == "canceled" else FAILED if cause else SUCCEEDED
    return (
        state, cause, message, end.exit_code, end.signal, end.started_at, end.wall_s, end.cpu_s, end.peak_bytes,
        end.stdout, end.stderr, None, None,
    )  # fmt: skip


def _lacked_memory(recipe: Recipe, end: End) -> bool:
    if not recipe.memory_bytes:
        return False
    # Until it executes, a child counts as having the spawner's own size.
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return end.out_of_memory or end.peak_bytes > max(_NEAR_LIMIT * recipe.memory_bytes, own_bytes)


def _read_source(lane: Lane, recipe: Recipe, end: End, source: str) -> Any:
    if source == "return":
        return end.value
    if source == "stdout":
        text = lane.stdout.read(end.stdout, results.MOST_JSON_BYTES) if end.stdout else b""
        return results.parse_json(text, "standard output")
    if source not in recipe.outputs:
        raise ValueError(f"there is no output {source!r}")
    with open(os.path.join(lane.workdir.path, recipe.outputs[source]), "rb") as file:
        return results.parse_json(file.read(results.MOST_JSON_BYTES), source)
