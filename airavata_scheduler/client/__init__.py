"""The Python SDK over HTTP; imports no Ray.

    from airavata_scheduler.client import Client, Experiment

    with Client() as client:
        run = client.submit(Experiment.sweep(command=["sh", "-c", 'echo "$X"'], inputs={"X": range(10)}))
        run.wait()
        table = run.results()

Names are imported when they are first used, so that `import airavata_scheduler.client` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airavata_scheduler.client.client import Client
    from airavata_scheduler.client.errors import (
        ApiError,
        ConflictError,
        InvalidDocumentError,
        InvalidRequestError,
        NotAllowedError,
        NotAuthenticatedError,
        NotFoundError,
        Problem,
        RateLimitedError,
        UnavailableError,
        UnreachableError,
    )
    from airavata_scheduler.client.experiment import Experiment
    from airavata_scheduler.client.run import Run, RunFailedError

_HOMES = {
    "Client": "client",
    "Experiment": "experiment",
    "Run": "run",
    "RunFailedError": "run",
    **dict.fromkeys(
        (
            "ApiError",
            "ConflictError",
            "InvalidDocumentError",
            "InvalidRequestError",
            "NotAllowedError",
            "NotAuthenticatedError",
            "NotFoundError",
            "Problem",
            "RateLimitedError",
            "UnavailableError",
            "UnreachableError",
        ),
        "errors",
    ),
}

__all__ = [
    "ApiError",
    "Client",
    "ConflictError",
    "Experiment",
    "InvalidDocumentError",
    "InvalidRequestError",
    "NotAllowedError",
    "NotAuthenticatedError",
    "NotFoundError",
    "Problem",
    "RateLimitedError",
    "Run",
    "RunFailedError",
    "UnavailableError",
    "UnreachableError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
