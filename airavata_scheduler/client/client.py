"""The way in: a connection to one platform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote
from uuid import uuid4

from airavata_scheduler.client.administration import Projects, Resources, Users, Workers
from airavata_scheduler.client.errors import InvalidRequestError, NotFoundError
from airavata_scheduler.client.paging import pages
from airavata_scheduler.client.run import Run
from airavata_scheduler.client.submission import Document, submission_body, with_point
from airavata_scheduler.client.target import find_target, read_config
from airavata_scheduler.client.transport import Transport

if TYPE_CHECKING:
    import httpx

_MOST_SEARCHED = 100_000
_PLAN_TIMEOUT_S = 120.0  #: a frontier is some dozens of plans


class Client:
    """One platform, found by itself; usable as a context manager.

    Found are, first wins: `url`; the platform of a given `home`; AIRAVATA_SERVER_URL (with AIRAVATA_TOKEN); what
    `airavata config set url` wrote; the platform of AIRAVATA_HOME or ~/.airavata. For a platform of this machine the
    client logs in with its generated admin secret. Times are in seconds. Raises `UnreachableError` when there is none.
    """

    def __init__(
        self,
        url: str | None = None,
        home: Path | str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        project: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`patience_s`: how long requests are repeated while nothing answers; `transport` is for tests."""
        target = find_target(url, home, username=username, password=password, token=token)
        self.transport = Transport(target, timeout_s=timeout_s, patience_s=patience_s, transport=transport)
        self.project = project or read_config(target.config_dir).get("project")
        self.projects = Projects(self.transport)
        self.users = Users(self.transport)
        self.resources = Resources(self.transport)
        self.workers = Workers(self.transport)

    @property
    def url(self) -> str:
        """Address of the platform."""
        return self.transport.target.url

    def submit(
        self,
        document: Document,
        *,
        project: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        start: bool = True,
        idempotency_key: str | None = None,
        base_dir: Path | None = None,
        point: Mapping[str, Any] | None = None,
    ) -> Run:
        """Hand over an experiment: an `Experiment`, a document as a mapping or text, or the `Path` of a file.

        An answer that got lost is asked for again and never makes a second experiment; `idempotency_key` extends that
        to calls of your own. `parameters` replace values of the document's parameters; `start=False` leaves a draft.
        `point` is a plan of the frontier that `plan` found: its objective and budget become the experiment's.
        Raises `InvalidDocumentError` with every problem.
        """
        body = submission_body(
            document, base_dir=base_dir, project=project or self.project, parameters=parameters, start=start
        )
        if point is not None:
            body["document"] = with_point(body["document"], point)
        key = idempotency_key or str(uuid4())
        state = self.transport.json(
            "POST", "/experiments", json=body, headers={"Idempotency-Key": key}, repeatable=True
        )
        return Run(self.transport, state)

    def validate(
        self,
        document: Document,
        *,
        project: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        base_dir: Path | None = None,
    ) -> dict[str, Any]:
        """What a document amounts to: `name`, `n_tasks`, `steps`, `warnings`. Stores nothing; errors as of `submit`."""
        body = submission_body(document, base_dir=base_dir, project=project or self.project, parameters=parameters)
        answer: dict[str, Any] = self.transport.json("POST", "/experiments/validate", json=body, repeatable=True)
        return answer

    def plan(
        self,
        document: Document,
        *,
        frontier: bool = False,
        project: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        base_dir: Path | None = None,
        point: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What would run where, until when and for how much, if it were submitted now. Stores nothing.

        `finish_s` with `finish_low_s` and `finish_high_s`, `cost`, `moved_bytes`, `deadline_risk`, `steps`,
        `resources`; with `frontier` also the plans from the fastest to the cheapest, any of which `submit(…, point=…)`
        takes; with such a `point` what it would come to.
        """
        body = submission_body(document, base_dir=base_dir, project=project or self.project, parameters=parameters)
        body = {**body, "frontier": frontier}
        if point is not None:
            body["document"] = with_point(body["document"], point)
        del body["start"]
        answer: dict[str, Any] = self.transport.json(
            "POST", "/experiments/plan", json=body, repeatable=True, timeout_s=_PLAN_TIMEOUT_S
        )
        return answer

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the experiment document."""
        answer: dict[str, Any] = self.transport.json("GET", "/experiments/schema")
        return answer

    def experiments(self, *, limit: int | None = None, **filters: Any) -> Iterator[dict[str, Any]]:
        """Experiments, the newest first.

        `filters`: project, owner, status (one or several), name, tag, created_after, created_before.
        """
        return pages(self.transport, "/experiments", limit, filters)

    def run(self, experiment: str) -> Run:
        """A submitted experiment by its id, the beginning of its id, or `last` for the newest.

        Raises `NotFoundError`, and `InvalidRequestError` when several begin like that.
        """
        return Run(self.transport, self._find(experiment))

    def whoami(self) -> dict[str, Any]:
        """The user that this client acts as."""
        answer: dict[str, Any] = self.transport.json("GET", "/auth/whoami")
        return answer

    def close(self) -> None:
        """Close the connections. Experiments go on."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def _find(self, experiment: str) -> dict[str, Any]:
        if experiment == "last":
            newest = next(self.experiments(limit=1), None)
            if newest is None:
                raise NotFoundError(
                    "there is no experiment yet", remedy="submit one with `airavata experiment run FILE`"
                )
            experiment = newest["id"]
        try:
            state: dict[str, Any] = self.transport.json("GET", f"/experiments/{quote(experiment, safe='')}")
        except (NotFoundError, InvalidRequestError):
            return self._find_by_prefix(experiment)
        return state

    def _find_by_prefix(self, prefix: str) -> dict[str, Any]:
        found = (
            [row["id"] for row in self.experiments(limit=_MOST_SEARCHED) if row["id"].startswith(prefix)]
            if prefix
            else []
        )
        if len(found) > 1:
            raise InvalidRequestError(
                f"{len(found)} experiments begin with {prefix!r}: {', '.join(found[:5])}", remedy="write more of the id"
            )
        if not found:
            raise NotFoundError(
                f"there is no experiment {prefix!r}, or you may not see it", remedy="see `airavata experiment list`"
            )
        state: dict[str, Any] = self.transport.json("GET", f"/experiments/{quote(found[0], safe='')}")
        return state
