"""What may go wrong in the planner.

PlannerError
 ├── SnapshotError    the snapshot is malformed: names the field, the value and the remedy
 └── SolverError      a solver of the ladder failed; the plan below it in the ladder stands
"""

from __future__ import annotations


class PlannerError(Exception):
    """Root of the planner's errors."""


class SnapshotError(PlannerError, ValueError):
    """A field of the snapshot cannot be planned with.

    Attributes: `field` (path such as `groups[3].request.cpu`), `value`, `remedy`.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = remedy
        super().__init__(f"{field} is {value!r}: {remedy}")

    def __reduce__(self) -> tuple[type[SnapshotError], tuple[str, object, str]]:
        """Survives the way back from the solver's process."""
        return type(self), (self.field, self.value, self.remedy)


class SolverError(PlannerError):
    """A solver gave no usable answer; the message says which and why."""
