"""`ResourceRegistry`: compute and storage resources, and what a user may set about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airavata_scheduler.platform.domain.errors import InvalidRequestError
from airavata_scheduler.platform.domain.views import ResourceView, StorageView
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.repository import ExperimentStore, ResourceStore


def _price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e6


def _speed(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1e-3 <= value <= 1e3


def _bandwidth(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15


def _labels(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


#: Field -> (whether a value is valid, what a valid one is).
_SETTABLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "price_per_hour": (_price, "money per cpu and hour, from 0 to 1000000"),
    "gpu_price_per_hour": (_price, "money per GPU and hour, from 0 to 1000000"),
    "speed": (_speed, "a factor from 0.001 to 1000; 1 is the reference"),
    "bandwidth_bytes_per_s": (_bandwidth, "bytes a second, or 0 where the storage is at hand"),
    "egress_price_per_gb": (_price, "money per GB that tasks read of the storage, from 0 to 1000000"),
    "labels": (_labels, "a mapping of text to text"),
    "enabled": (lambda value: isinstance(value, bool), "true or false"),
}


class ResourceRegistryService:
    """See `interfaces.ResourceRegistry`. ``on_change`` is called when a plan may have to change."""

    def __init__(
        self,
        store: ResourceStore,
        audit: ExperimentStore,
        queries: Queries,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._audit = audit
        self._queries = queries
        self._on_change = on_change

    async def resources(self) -> Sequence[ResourceView]:
        """All of them."""
        return await self._queries.resources()

    async def resource(self, name: str) -> ResourceView:
        """NotFoundError if there is none of that name."""
        return await self._queries.resource(name)

    async def update(self, actor: str, name: str, changes: Mapping[str, Any]) -> ResourceView:
        """Change what a user may set; nothing is changed if one of the changes is not valid."""
        for field, value in changes.items():
            valid, meaning = _SETTABLE.get(field, (None, ""))
            if valid is None:
                message = f"{field} cannot be set"
                raise InvalidRequestError(message, path=field, remedy=f"settable are {', '.join(_SETTABLE)}")
            if not valid(value):
                message = f"{field} = {value!r} is not valid"
                raise InvalidRequestError(message, path=field, remedy=f"give {meaning}")
        await self._store.update_resource(name, changes)
        await self._audit.audit(actor, "resource.update", name, dict(changes))
        self._on_change()
        return await self._queries.resource(name)

    async def storages(self) -> Sequence[StorageView]:
        """All of them."""
        return await self._queries.storages()

    async def probe(self) -> None:
        """Remove the records of workers that ended long ago, so that lists stay short."""
        await self._store.forget_ended_workers(older_than_s=7 * 86400.0)
