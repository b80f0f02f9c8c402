"""Rules about the leases of workers that every store keeps."""

from __future__ import annotations


def renewals_were_possible(now: float, looked_at: float | None, lease_s: float) -> bool:
    """Whether a worker whose lease is over had itself to blame, as far as the database's clock can tell.

    It had if the reaper, who looks every third of a lease, got its last look through as well. Otherwise the database or
    the reaper was away, or the clock was set; ``looked_at`` of None stands for a reaper that knows so already.
    """
    return looked_at is not None and 0.0 <= now - looked_at < lease_s * 2 / 3
