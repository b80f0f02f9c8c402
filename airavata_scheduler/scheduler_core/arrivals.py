"""Assignments that leave room for the experiments that come later.

What those will wait grows with the square of when a pool ends (see `objective`), which a linear programme cannot say.
Around a given end it is a price for each second by which everything ends later, `arrival_weight * end`: here it is on
top of what the finish of all work costs already, for a few ends up to that of the programme's own optimum. The bound is
that of the original programme; assignments that are made with these prices are only proposed.
"""

from __future__ import annotations

from dataclasses import replace

from .errors import SolverError
from .objective import Costs, arrival_weight, stage_finishes
from .problem import Floats, Problem
from .rounding import rounded

#: Ends as parts of the finish of the programme's optimum; the first is the most promising.
_ENDS = (0.4, 0.15, 1.0)


def arrival_assignments(problem: Problem, price: Costs, x: Floats) -> list[tuple[str, Floats]]:
    """Whole assignments (C, P), named, that leave room for what comes; none if nothing does."""
    from .linear import Linear  # noqa: PLC0415 - as in `planner.ladder`

    found: dict[bytes, tuple[str, Floats]] = {}
    for end in _ENDS if arrival_weight(problem) > 0 else ():
        priced = with_arrivals(problem, price, x, end)
        try:
            candidate = rounded(problem, priced, Linear().solve(problem, priced, x))
        except SolverError:
            continue
        found.setdefault(candidate.tobytes(), (f"to come {end:g}", candidate))
    return list(found.values())


def with_arrivals(problem: Problem, price: Costs, x: Floats, end: float = _ENDS[0]) -> Costs:
    """The prices, with what a later finish makes those wait who come; all work ends at a part `end` of that of x."""
    finish_s = float(stage_finishes(problem, price, x).max(initial=0.0)) * end
    weight = price.finish_weight.copy()
    weight[-1] += arrival_weight(problem) * finish_s
    return replace(price, finish_weight=weight)
