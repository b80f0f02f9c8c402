"""Lists that the API hands out page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airavata_scheduler.client.transport import Transport

_PAGE = 1000


def pages(transport: Transport, path: str, limit: int | None, filters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a paginated list, at most `limit` of them; a filter that is None is left out."""
    cursor, left = None, limit if limit is not None else 1 << 62
    while left > 0:
        page = transport.json("GET", path, params={**filters, "limit": min(_PAGE, left), "cursor": cursor})
        yield from page["items"][:left]
        left -= len(page["items"])
        cursor = page.get("next")
        if not cursor:
            return
