"""Models of resources, storages, workers and health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from airavata_scheduler.api.models import Asked, Shown, Time, asked, shown

_CAPACITY = {"cpu": 8.0, "memory_bytes": 16_000_000_000, "gpu": 0.0, "disk_bytes": 0, "named": {}}
Price = Annotated[float, Field(ge=0, le=1e9)]


class CapacityModel(Shown):
    """Amounts of things that can be shared out."""

    cpu: float
    memory_bytes: int
    gpu: float
    disk_bytes: int
    named: dict[str, float]


class ResourceModel(Shown):
    """A compute resource; ``capacity`` is the sum over live workers, ``largest`` the most one of them has of each."""

    model_config = shown(
        {
            "name": "local",
            "kind": "ray",
            "state": "up",
            "capacity": _CAPACITY,
            "largest": _CAPACITY,
            "price_per_hour": 0.0,
            "gpu_price_per_hour": 0.0,
            "speed": 1.0,
            "labels": {},
            "bandwidth_bytes_per_s": 0.0,
            "egress_price_per_gb": 0.0,
            "enabled": True,
            "workers": 1,
            "running": 3,
        }
    )
    name: str
    kind: str
    state: str
    capacity: CapacityModel
    largest: CapacityModel
    price_per_hour: float
    gpu_price_per_hour: float
    speed: float
    labels: dict[str, str]
    bandwidth_bytes_per_s: float
    egress_price_per_gb: float
    enabled: bool
    workers: int
    running: int


class ResourceChanges(Asked):
    """What is left out stays as it is."""

    model_config = asked({"price_per_hour": 0.05, "speed": 1.4, "labels": {"zone": "a"}, "enabled": True})
    price_per_hour: Price | None = None
    gpu_price_per_hour: Price | None = None
    speed: Annotated[float, Field(gt=0, le=1e6)] | None = None
    labels: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]] | None = None
    bandwidth_bytes_per_s: Annotated[float, Field(ge=0, le=1e15)] | None = None
    egress_price_per_gb: Price | None = None
    enabled: bool | None = None


class WorkerModel(Shown):
    """A worker; ``running``: tasks that it holds."""

    model_config = shown(
        {
            "id": 3,
            "name": "exec.local.n1",
            "resource": "local",
            "host": "node-1",
            "node_id": "n1",
            "pid": 4242,
            "state": "live",
            "capacity": _CAPACITY,
            "running": 3,
            "registered_at": "2026-01-01T00:00:00Z",
            "heartbeat_at": "2026-01-01T00:00:03Z",
            "version": "0.1.0",
        }
    )
    id: int
    name: str
    resource: str
    host: str
    node_id: str
    pid: int
    state: str
    capacity: CapacityModel
    running: int
    registered_at: Time
    heartbeat_at: Time
    version: str


class StorageModel(Shown):
    """A storage resource."""

    model_config = shown({"name": "default", "kind": "posix", "root": "/data/airavata"})
    name: str
    kind: str
    root: str


class Health(BaseModel):
    """The API and the database answer."""

    model_config = shown({"status": "ok", "version": "0.1.0"})
    status: Literal["ok"] = "ok"
    version: str


class Part(BaseModel):
    """One part of the platform."""

    name: str
    healthy: bool
    message: str = ""


class HealthDetail(BaseModel):
    """Part by part."""

    model_config = shown(
        {"status": "ok", "version": "0.1.0", "parts": [{"name": "database", "healthy": True, "message": ""}]}
    )
    status: Literal["ok", "degraded"]
    version: str
    parts: list[Part]
    details: dict[str, Any] = {}
