"""What a solver of the ladder gives back, and the protocol it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .objective import Costs
from .problem import Floats, Problem


@dataclass(frozen=True, slots=True)
class Solution:
    """A relaxed or integral assignment and what was learnt on the way.

    `x` (C, P) may be fractional. `bound` is a valid lower bound of the objective of *any* assignment in the same
    stages, None if unknown. `capacity_price` (P, D) is objective seconds saved by one more unit of capacity,
    `budget_price` (E,) by one more unit of money. `reduced` (C, P) is how much worse a cell is than the best of its
    class at these prices, infinite where it is not allowed.
    """

    x: Floats
    bound: float | None
    capacity_price: Floats
    budget_price: Floats
    reduced: Floats
    solver: str


class Solver(Protocol):
    """One rung of the ladder."""

    name: str

    def suits(self, problem: Problem, price: Costs, incumbent: Floats) -> bool:
        """Whether the problem has the shape this solver is exact for (up to rounding)."""
        ...

    def solve(self, problem: Problem, price: Costs, incumbent: Floats) -> Solution:
        """Improves on the incumbent (C, P). Raises SolverError when it has no answer."""
        ...
