"""To which part of a task's life a function belongs: what the profile adds up by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: Looked for in a stack from its innermost frame outwards; the first frame that one of them fits decides.
_STAGES: tuple[tuple[str, str], ...] = (
    ("planner", r"scheduler_core|services/(snapshot|runtimes|spending|plan_json|alarms)|adapters/solver"),
    ("spawn", r"posix_spawn|worker/(lane|sandbox|recipe|environment|workdir|cgroups|strays|warm|spawners|gpus)"),
    ("collect", r"wait4|waitid|worker/(verdict|results|outputs|segments|leftovers)"),
    ("report", r"persistence/(reports|follow)|worker/reporter|\breport\b|services/step_cache"),
    (
        "claim",
        r"persistence/task_store|services/dispatch|worker/(session|dispatch|pool)|\bclaim\b|domain/sweep|domain/axes",
    ),
    ("wire", r"worker/(wire|frames)|domain/(messages|encoding)"),
    ("database driver", r"psycopg|sqlalchemy"),
    ("Ray calls", r"\bray/|adapters/(actor_calls|worker_channel)|_raylet"),
    ("event loop", r"asyncio/|selectors\.py|concurrent/"),
)
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _STAGES)
#: A driver's frame says nothing about why it was called: its callers are asked first.
_WEAK = {"database driver", "event loop", "Ray calls", "wire"}


def stage_of(stack: Iterable[str]) -> str:
    """The stage of a stack, frames from the outermost to the innermost."""
    weak = ""
    for frame in reversed(tuple(stack)):
        for name, pattern in _PATTERNS:
            if pattern.search(frame):
                if name not in _WEAK:
                    return name
                weak = weak or name
                break
    return weak or "other"


@dataclass(slots=True)
class Samples:
    """Stacks of one process, added up."""

    total: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)  #: by innermost function
    within: Counter[str] = field(default_factory=Counter)  #: by function, with all that it calls

    def add(self, stack: tuple[str, ...], count: int) -> None:
        """One stack that was seen so often."""
        self.total += count
        self.stages[stage_of(stack)] += count
        self.own[_name(stack[-1])] += count
        for name in {_name(frame) for frame in stack}:
            self.within[name] += count

    def shares(self, counted: Mapping[str, int], most: int) -> list[tuple[str, float]]:
        """The largest, as parts of 1."""
        ranked = sorted(counted.items(), key=lambda item: -item[1])[:most]
        return [(name, count / max(1, self.total)) for name, count in ranked]


#: A spawner's loop itself does nothing but wait for tasks to end.
_WAITING = "Spawner.run "


def read_collapsed(text: str) -> Samples:
    """From the lines of `py-spy record --format raw`: frames between semicolons, then a count."""
    samples = Samples()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = tuple(frame for frame in stack.split(";") if frame and not frame.startswith(("process ", "thread ")))
        if frames and count.isdigit() and not frames[-1].startswith(_WAITING):
            samples.add(frames, int(count))
    return samples


def _name(frame: str) -> str:
    """`function (path/file.py)` without the line, and without the part of the path that only the machine knows."""
    without_line = re.sub(r":\d+\)$", ")", frame)
    return re.sub(r"\((?:.*/)?((?:[^/]+/){0,2}[^/]+\.(?:py|pyx|pxi))\)", r"(\1)", without_line)
