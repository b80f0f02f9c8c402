"""Learning from finished attempts: runtime, memory and failures per step and resource, and queue waits per resource.

Durations are kept as logarithms (runtimes are skewed), in three numbers that can be added: a million observations cost
as much as ten. While data is thin, the mean is shrunk towards a prior (the user's figure, or what the other resources
showed) that counts as `PRIOR_WEIGHT` observations at first and as fewer the more was seen; so does the spread. A wrong
figure of the user is halved in error after two or three observations, and all but gone after some tens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log, sqrt

from .errors import SnapshotError
from .snapshot import Estimate

PRIOR_WEIGHT = 3.0
FORGET_AFTER = 10.0
#: The spread of a prior: one standard deviation is a factor of about 1.8.
PRIOR_SIGMA = 0.6
PRIOR_FAILURES = 0.02
PRIOR_FAILURE_WEIGHT = 5.0
#: The 90 % quantile of the standard normal distribution.
_Z90 = 1.2816
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a positive quantity: count, sum and sum of squares of its logarithms, and its largest value."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    largest: float = 0.0

    def plus(self, values: Iterable[float]) -> Observed:
        """This and more values; values below a microsecond count as one. Raises SnapshotError for negative ones."""
        n, total, squares, largest = self.n, self.total, self.squares, self.largest
        for value in values:
            if not value >= 0:
                raise SnapshotError("observation", value, "give a duration or an amount that is not negative")
            logged = log(max(value, _LEAST))
            n, total, squares, largest = n + 1, total + logged, squares + logged * logged, max(largest, value)
        return Observed(n, total, squares, largest)

    def merged(self, other: Observed) -> Observed:
        """What both saw."""
        return Observed(
            self.n + other.n, self.total + other.total, self.squares + other.squares, max(self.largest, other.largest)
        )

    def scaled(self, factor: float) -> Observed:
        """The same observations with every value multiplied (a runtime on one speed as a runtime on another)."""
        shift = log(factor)
        squares = self.squares + 2.0 * shift * self.total + self.n * shift * shift
        return Observed(self.n, self.total + self.n * shift, squares, self.largest * factor)


@dataclass(frozen=True, slots=True)
class Failures:
    """Attempts and how many of them failed."""

    attempts: int = 0
    failed: int = 0

    def plus(self, attempts: int, failed: int) -> Failures:
        """This and more attempts."""
        return Failures(self.attempts + attempts, self.failed + failed)

    def rate(self, prior: float = PRIOR_FAILURES) -> float:
        """The expected failure rate, shrunk towards a prior while attempts are few; below 1 if the prior is."""
        weight = PRIOR_FAILURE_WEIGHT
        return (self.failed + weight * prior) / (self.attempts + weight)


def estimate(seen: Observed, prior_s: float, prior_sigma: float = PRIOR_SIGMA) -> Estimate:
    """The posterior of a quantity: mean, 10 % and 90 % quantiles of a single value, in the unit of the observations.

    `prior_s` is the expected mean, in the same unit. Raises SnapshotError unless it is positive.
    """
    if not prior_s > 0:
        raise SnapshotError("prior_s", prior_s, "give a figure above zero")
    # A prior is worth less the more was seen, so that a figure wrong by a factor of ten is gone after some tens.
    held = PRIOR_WEIGHT / (1.0 + seen.n / FORGET_AFTER)
    weight = seen.n + held
    believed = log(prior_s) - 0.5 * prior_sigma**2
    centre = (seen.total + held * believed) / weight
    own = seen.total / seen.n if seen.n else centre
    within = max(0.0, seen.squares - seen.n * own * own)
    between = seen.n * (own - centre) ** 2 / (1 + seen.n)
    variance = (within + held * prior_sigma**2 + between) / weight
    sigma = sqrt(variance)
    return Estimate(
        mean_s=exp(centre + 0.5 * min(variance, 2.0)),
        low_s=exp(centre - _Z90 * sigma),
        high_s=exp(centre + _Z90 * sigma),
        n=seen.n,
    )


def prior_from_others(others: Iterable[tuple[Observed, float]], target_speed: float, user_s: float | None) -> float:
    """A prior for a resource nothing ran on yet, in seconds there.

    It is what others showed, at its speed, and the user's figure.

    `others` are observations with the speed of the resource they come from; `user_s` is at speed 1. Without either it
    is one minute.
    """
    pooled = Observed()
    for seen, speed in others:
        pooled = pooled.merged(seen.scaled(speed))
    base = 60.0 if user_s is None else user_s
    if pooled.n:
        centre = (pooled.total + PRIOR_WEIGHT * log(max(base, _LEAST))) / (pooled.n + PRIOR_WEIGHT)
        return exp(centre) / target_speed
    return base / target_speed
