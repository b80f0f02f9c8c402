"""Experiments drawn at random: a few steps that follow, gather or wait for each other."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from airavata_scheduler.platform.domain.axes import Values
from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep, ProgramTemplate, Reference
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.ports.repository import NewExperiment


@dataclass(frozen=True)
class Nature:
    """How the tasks of a step behave; the simulated workers look it up by experiment and step."""

    mean_s: float
    fails: float  #: part of the attempts that fail by the user's fault
    breaks: float  #: and by the machine's


def draw_experiment(rng: random.Random, name: str) -> tuple[NewExperiment, dict[tuple[str, str], Nature]]:
    steps: list[CompiledStep] = []
    natures: dict[tuple[str, str], Nature] = {}
    for position in range(rng.choice((1, 1, 2, 2, 3))):
        step = _draw_step(rng, position, steps)
        steps.append(step)
        fails = rng.choice((0.0, 0.0, 0.1, 0.5))
        natures[name, step.name] = Nature(rng.choice((0.02, 0.3, 2.0)), fails, rng.choice((0.0, 0.0, 0.05)))
    compiled = CompiledExperiment(
        name=name, description="", tags=(), priority=rng.choice((0, 0, 5)), deadline=None,
        budget=rng.choice((None, None, 1e6)), objective={}, allow=(), deny=(), steps=tuple(steps),
    )  # fmt: skip
    return NewExperiment(name, "admin", rng.choice(("red", "blue")), compiled, {"name": name}), natures


def _draw_step(rng: random.Random, position: int, before: list[CompiledStep]) -> CompiledStep:
    links: dict[str, Any] = {"foreach": (), "gather": (), "after": (), "references": {}}
    n = rng.choice((1, 2, 4, 8))
    fan_out = n
    if before and rng.random() < 0.9:
        kind = rng.choice(("foreach", "foreach", "gather", "after"))
        upstream = rng.choice(before)
        alike = [step for step in before if step.n == upstream.n]
        if kind == "foreach":
            chosen = {upstream.position, rng.choice(alike).position}
            fan_out = rng.choice((1, 1, 2))
            n = upstream.n * fan_out
            links["foreach"] = tuple(sorted(chosen))
            links["references"] = {"INPUT": Reference(upstream.position, "OUT", "foreach")}
        elif kind == "gather":
            links["gather"] = (upstream.position,)
            links["references"] = {"PARTS": Reference(upstream.position, "OUT", "gather")}
        else:
            links["after"] = (upstream.position,)
        if kind != "after" and rng.random() < 0.3:
            links["after"] = (rng.choice(before).position,)
    return CompiledStep(
        position=position, name=f"s{position}", n=n, fan_out=fan_out,
        sweep=Sweep(Values("X", tuple(range(fan_out)))), **links,
        program=ProgramTemplate(
            request=Capacity(cpu=rng.choice((1, 1, 1, 2))), command=("true",), outputs={"OUT": "out.txt"}
        ),
        retry=RetryPolicy(max_attempts=rng.choice((1, 2, 4)), backoff_s=rng.choice((0.0, 0.5, 5.0))),
        priority=0, time_s=rng.choice((None, 1.0)), deny=rng.choice(((), (), ("east",))),
    )  # fmt: skip
