"""Routes by subject."""

from __future__ import annotations

#: Each router carries it itself, so that a route knows its whole address.
PREFIX = "/api/v1"
