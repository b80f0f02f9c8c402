"""Which experiment comes first, when deadlines compete: whole experiments are moved earlier or later in the order.

By-deadline orders spread lateness over many experiments, by-size orders pile it on the large ones; what is best lies in
between and depends on all of them. Each order tried is composed anew, so that tasks go where they still end in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import inf

from .problem import EPSILON
from .rehearsal import Cast, Tried, rehearsed
from .timeline import compose


def reorder(who: Cast, start: Tried, effort: int) -> tuple[Tried, int]:
    """The best order found before nothing helps any more or the effort is spent, and what is left of it."""
    best = start
    progress = len(set(who.experiment)) > 1 and any(due < inf for due in who.deadline_s)
    # Composing a task takes longer than playing it.
    cost = 4 * sum(who.size)
    while progress and effort > 0:
        progress = False
        for order in _neighbours(who, best):
            effort -= cost
            rival = rehearsed(who, compose(who, order, inf, f"{start[0].name}/reordered"))
            if rival[2] < best[2] * (1.0 - 1e-6) - EPSILON:
                best, progress = rival, True
                break
            if effort <= 0:
                break
    return best, effort


def _neighbours(who: Cast, tried: Tried) -> Iterator[list[int]]:
    """Orders with one experiment moved: what is late first and to the front, then everything else."""
    script, outcome, _ = tried
    blocks: dict[int, list[int]] = {}
    for g in script.order:
        blocks.setdefault(who.experiment[g], []).append(g)
    late = dict.fromkeys(blocks, 0.0)
    for by_group in outcome.end:
        for g, end in by_group.items():
            late[who.experiment[g]] = max(late[who.experiment[g]], end - who.due_s[g])
    sequence = list(blocks)
    for e in sorted(sequence, key=lambda e: -late[e]):
        at = sequence.index(e)
        rest = sequence[:at] + sequence[at + 1 :]
        for to in range(len(sequence)):
            if to == at:
                continue
            order = [g for other in (*rest[:to], e, *rest[to:]) for g in blocks[other]]
            levels = [who.level[g] for g in order]
            if all(a >= b for a, b in pairwise(levels)):
                yield order
