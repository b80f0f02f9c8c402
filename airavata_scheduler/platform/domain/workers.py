"""Rules about the leases of workers that every store keeps."""

from __future__ import annotations

from dataclasses import dataclass

#: Part of a lease by which the clocks of database and reaper may disagree, and after which a lease counts as over.
SLACK = 0.1


@dataclass(frozen=True, slots=True)
class LastLook:
    """When a reaper last got through: the database's time, and the seconds since by a clock that nobody sets."""

    at: float
    ago_s: float

    def was_regular(self, now: float, lease_s: float) -> bool:
        """Whether a worker whose lease is over ``now`` had itself to blame, as far as clocks can tell.

        It had if the reaper, who looks every third of a lease, got through the last time as well, and the database's
        clock has gone on since as the reaper's did. Otherwise the database or the reaper was away, or a clock was set.
        """
        return self.ago_s < lease_s * 2 / 3 and abs(now - self.at - self.ago_s) <= lease_s * SLACK


def over_before(now: float, lease_s: float) -> float:
    """Leases that end before this are over. Later than they say, as the database's clock may have been set a little."""
    return now - lease_s * SLACK
