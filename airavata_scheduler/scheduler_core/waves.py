"""Assignments that know that tasks come in whole waves.

The linear programme fills every pool up to the horizon T, as if tasks were a fluid. A place of a pool really runs
`floor(T / hold)` tasks of a class by then and wastes the rest, which matters where tasks are long against T. So the
programme is solved again with hold times inflated towards `T / floor(T / hold)`, for a few horizons a little above the
fluid's and a few degrees of inflation (different classes can share a place, so full inflation is too careful). The
bound is that of the original programme; these only propose.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .errors import SolverError
from .objective import Costs, stage_finishes
from .problem import Floats, Problem
from .rounding import rounded

_INFLATION = (0.25, 0.6, 1.0)
_STRETCH = (1.0, 1.01, 1.03, 1.08)
#: Hold times that do not fit the horizon even once are made this much longer, which prices them out.
_TOO_LONG = 50.0


def wave_assignments(problem: Problem, price: Costs, x: Floats) -> list[tuple[str, Floats]]:
    """Whole assignments (C, P), named, for several inflations around the finish of `x`; duplicates are left out."""
    from .linear import Linear  # noqa: PLC0415 - as in `planner.ladder`

    finish = float(stage_finishes(problem, price, x).max(initial=0.0))
    found: dict[bytes, tuple[str, Floats]] = {}
    if finish <= 0:
        return []
    for stretch in _STRETCH:
        seconds = np.maximum(finish * stretch - problem.wait_s, 0.0)[None, :]
        fitting = np.floor(seconds / problem.hold_s + 1e-9)
        whole = np.where(fitting >= 1, seconds / np.maximum(fitting, 1.0), problem.hold_s * _TOO_LONG)
        for inflation in _INFLATION:
            hold_s = (1.0 - inflation) * problem.hold_s + inflation * whole
            inflated = replace(problem, hold_s=hold_s)
            try:
                candidate = rounded(inflated, price, Linear().solve(inflated, price, x))
            except SolverError:
                continue
            found.setdefault(candidate.tobytes(), (f"waves {inflation:g} {stretch:g}", candidate))
    return list(found.values())
