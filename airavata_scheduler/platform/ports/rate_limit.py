"""How often somebody may do something."""

from __future__ import annotations

from typing import Protocol


class RateLimit(Protocol):
    """Counts uses by rule and key, such as attempts to log in by address."""

    async def hit(self, rule: str, key: str) -> float:
        """Count one use. 0.0 if it is allowed, else the seconds until it is."""
        ...
