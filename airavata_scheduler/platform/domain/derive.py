"""An experiment made of some tasks of another one: which tasks, and the steps that remain. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep, Reference

Range = tuple[int, int]


def needed(steps: Sequence[CompiledStep], wanted: Mapping[int, Sequence[Range]]) -> dict[int, list[Range] | None]:
    """Position -> ranges of tasks of the steps that remain (None: all of them).

    A task that follows another index by index comes with the one it follows, and that one with everything that follows
    it. A step that a remaining step needs as a whole, and of which nothing is wanted by itself, comes as a whole; where
    something of it is wanted, the step that needs it gathers just that.
    """
    marked: dict[int, list[Range]] = {position: list(ranges) for position, ranges in wanted.items() if ranges}
    whole: set[int] = set()
    for step in sorted(steps, key=lambda step: step.position, reverse=True):
        if step.position not in marked and step.position not in whole:
            continue
        for upstream in step.foreach:
            if step.position in whole:
                whole.add(upstream)
            else:
                ranges = [(first // step.fan_out, last // step.fan_out) for first, last in marked[step.position]]
                marked[upstream] = merge([*marked.get(upstream, []), *ranges])
        whole.update(upstream for upstream in (*step.gather, *step.after) if upstream not in marked)
    return {p: None if p in whole else merge(marked[p]) for p in sorted({*marked, *whole})}


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same indexes as ascending ranges that neither overlap nor touch."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def restrict(compiled: CompiledExperiment, ranges: Mapping[int, list[Range] | None]) -> CompiledExperiment:
    """The experiment with the steps in ``ranges`` only; those of a `foreach` step come from the one it follows."""
    positions = {old: new for new, old in enumerate(sorted(ranges))}
    steps: list[CompiledStep] = []
    for step in compiled.steps:
        if step.position not in ranges:
            continue
        chosen = ranges[step.position]
        if step.foreach:
            n, sweep = steps[positions[step.foreach[0]]].n * step.fan_out, step.sweep
        else:
            sweep = step.sweep if chosen is None else step.sweep.select(chosen)
            n = sweep.n
        steps.append(_moved(step, positions, n=n, sweep=sweep, fan_out=step.fan_out if step.foreach else n))
    return replace(compiled, steps=tuple(steps))


def _moved(step: CompiledStep, positions: Mapping[int, int], **changes: object) -> CompiledStep:
    def kept(upstream: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(positions[p] for p in upstream if p in positions)

    references = {
        name: Reference(positions[reference.step], reference.output, reference.mode)
        for name, reference in step.references.items()
    }
    return replace(
        step,
        position=positions[step.position],
        foreach=kept(step.foreach),
        gather=kept(step.gather),
        after=kept(step.after),
        references=references,
        **changes,  # type: ignore[arg-type]  # the three fields above, typed by the caller
    )
