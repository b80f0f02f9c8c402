"""The command as a user and as a program sees it, against a platform made of a few dictionaries."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from airavata_scheduler.cli import failures
from airavata_scheduler.cli.main import main
from airavata_scheduler.client import errors, transport
from airavata_scheduler.client.events import EventStream

ZERO = {"pending": 0, "ready": 0, "assigned": 0, "staging": 0, "running": 0, "collecting": 0}


def experiment(id_: str, status: str, succeeded: int, failed: int = 0) -> dict[str, Any]:
    tasks = {"total": 4, **ZERO, "succeeded": succeeded, "failed": failed, "skipped": 0, "canceled": 0}
    steps = [{"name": "work", "n": 4, "tasks": tasks, "needs": []}]
    base = {"id": id_, "name": "demo", "project": "default", "owner": "admin", "status": status, "tasks": tasks}
    times = {"created_at": "2030-01-01T10:00:00Z", "started_at": None, "finished_at": None, "wall_s": 3.5}
    return {**base, **times, "reason": "", "steps": steps, "cost": 0.0, "cpu_s": 1.0}


class FakePlatform:
    """Routes by method and path; `lives` are the states that an experiment goes through, one at each look."""

    def __init__(self) -> None:
        self.lives: list[dict[str, Any]] = []
        self.listed: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.refuse: httpx.Response | None = None
        self.plan_differs: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, path, body))
        if path == "/auth/login":
            tokens = {"access_token": "a", "refresh_token": "r", "expires_in": 3600}
            return httpx.Response(200, json=tokens)
        if self.refuse:
            return self.refuse
        return self.route(request.method, path, request)

    def route(self, method: str, path: str, request: httpx.Request) -> httpx.Response:  # noqa: PLR0911 - a table
        end = path.rpartition("/")[2]
        if path == "/experiments" and method == "GET":
            return httpx.Response(200, json={"items": self.listed, "next": None})
        if path == "/experiments/validate":
            steps = [{"name": "work", "n": 4, "needs": [], "request": {"cpu": 1}, "first": {"I": 1}}]
            return httpx.Response(200, json={"name": "demo", "n_tasks": 4, "steps": steps, "warnings": ["slow"]})
        if path == "/experiments/plan":
            return httpx.Response(200, json={**planned(json.loads(request.content)["frontier"]), **self.plan_differs})
        if end == "archive":
            return httpx.Response(200, content=tar({"work/0/out.txt": b"1\n"}))
        if end == "results":
            table = {"columns": ["experiment", "I", "nothing"], "items": [{"experiment": "e", "I": 7, "nothing": None}]}
            csv = httpx.Response(200, content=b"I\n7\n")
            return csv if request.url.params["format"] == "csv" else httpx.Response(200, json=table)
        if end == "logs":
            return httpx.Response(200, content=b"hello\n")
        if path == "/projects":
            return httpx.Response(200, json=[{"name": "default", "owner": "admin"}])
        if method == "DELETE":
            return httpx.Response(204)
        life = self.lives.pop(0) if len(self.lives) > 1 else self.lives[0]
        return httpx.Response(201 if path == "/experiments" else 200, json=life)


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "run" / "settings.json").write_text('{"http_host": "127.0.0.1", "http_port": 1}')
    (tmp_path / "secrets" / "admin.json").write_text('{"username": "admin", "password": "secret"}')
    return tmp_path


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> FakePlatform:
    fake, real = FakePlatform(), httpx.Client
    monkeypatch.setattr(
        transport.httpx, "Client", lambda **options: real(**{**options, "transport": httpx.MockTransport(fake)})
    )
    monkeypatch.setattr(EventStream, "_open", EventStream._lost)
    monkeypatch.setattr("time.sleep", lambda _s: None)
    for name in ("AIRAVATA_HOME", "AIRAVATA_SERVER_URL", "AIRAVATA_TOKEN", "AIRAVATA_CONFIG_DIR", "AIRAVATA_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "demo.yml"
    path.write_text("tasks: {work: {command: [x]}}  # as written\n")
    return str(path)


Captured = pytest.CaptureFixture[str]


def last_json(capsys: Captured) -> Any:
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1, lines
    return json.loads(lines[0])


def test_run_watch_json_ends_with_the_line_of_the_contract(
    platform: FakePlatform, home: Path, document: str, capsys: Captured
) -> None:
    platform.lives = [experiment("e1", "RUNNING", 0), experiment("e1", "RUNNING", 2), experiment("e1", "SUCCEEDED", 4)]
    assert main(["experiment", "run", document, "--watch", "--json", "--home", str(home)]) == 0
    tasks = {"total": 4, "succeeded": 4, "failed": 0, "canceled": 0, "skipped": 0}
    assert last_json(capsys) == {"id": "e1", "status": "SUCCEEDED", "tasks": tasks, "wall_s": 3.5}


def test_run_sends_the_text_as_it_is_with_parameters_and_project(
    platform: FakePlatform, home: Path, document: str, capsys: Captured
) -> None:
    platform.lives = [experiment("e1", "RUNNING", 0)]
    command = ["experiment", "run", document, "-p", "N=3", "--param", "M=a=b", "--project", "p"]
    assert main([*command, "--json", "--home", str(home)]) == 0
    assert last_json(capsys) == {"id": "e1", "status": "RUNNING"}
    sent = next(body for method, path, body in platform.requests if (method, path) == ("POST", "/experiments"))
    assert sent["document"].endswith("# as written\n")
    assert (sent["parameters"], sent["project"]) == ({"N": "3", "M": "a=b"}, "p")


def test_failures_end_with_7(platform: FakePlatform, home: Path, document: str, capsys: Captured) -> None:
    platform.lives = [experiment("e1", "PARTIAL", 3, failed=1)]
    assert main(["experiment", "run", document, "--watch", "--home", str(home)]) == 7
    assert "experiment explain e1" in capsys.readouterr().out
    assert main(["experiment", "watch", "e1", "--json", "--home", str(home)]) == 7
    assert last_json(capsys)["status"] == "PARTIAL"


def test_ctrl_c_leaves_the_experiment_running_and_says_so(
    platform: FakePlatform, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.lives = [experiment("e1", "RUNNING", 1)]

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(EventStream, "wait", interrupted)
    assert main(["experiment", "watch", "e1", "--home", str(home)]) == 130
    said = capsys.readouterr().out
    assert "goes on" in said
    assert f"airavata experiment watch e1 --home {home}" in said
    assert not any(path.endswith("cancel") for _, path, _ in platform.requests)


def test_an_invalid_document_ends_with_6_and_shows_every_problem(
    platform: FakePlatform, home: Path, document: str, capsys: Captured
) -> None:
    rows = [
        {"path": "tasks.a.colour", "message": "is not known", "value": "'red'", "remedy": "remove it"},
        {"path": "", "message": "line 3: a bracket is not closed", "value": "", "remedy": ""},
    ]
    platform.refuse = httpx.Response(422, json={"code": "invalid_document", "message": "no", "problems": rows})
    assert main(["experiment", "run", document, "--home", str(home)]) == 6
    said = capsys.readouterr().err
    for word in ("2 problems", "tasks.a.colour", "is not known", "'red'", "remove it", "line 3"):
        assert word in said
    assert "Traceback" not in said


def test_a_missing_table_ends_with_6_too(platform: FakePlatform, home: Path, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "d.yml"
    path.write_text("tasks: {a: {command: [x], rows: none.csv}}\n")
    assert main(["experiment", "run", str(path), "--home", str(home)]) == 6
    assert "tasks.a.rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "not_authenticated", 3),
        (403, "not_allowed", 3),
        (404, "not_found", 5),
        (409, "conflict", 1),
        (422, "invalid_request", 2),
        (503, "unavailable", 4),
    ],
)
def test_refusals_become_exit_codes(
    platform: FakePlatform, home: Path, capsys: Captured, status: int, code: str, exit_code: int
) -> None:
    form = {"code": code, "message": "because", "path": "", "remedy": "do better", "request_id": "r"}
    platform.refuse = httpx.Response(status, json=form, headers={"Retry-After": "60"} if status == 503 else {})
    assert main(["project", "list", "--json", "--home", str(home)]) == exit_code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == code
    assert "because" in captured.err
    assert "do better" in captured.err


def test_no_platform_ends_with_4(tmp_path: Path, platform: FakePlatform, capsys: Captured) -> None:
    assert main(["experiment", "list", "--home", str(tmp_path / "nothing")]) == 4
    assert "airavata up --home" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["experiment", "run"],
        ["experiment", "run", "/does/not/exist.yml"],
        ["experiment", "run", "DOCUMENT", "--param", "novalue"],
        ["experiment", "run", "DOCUMENT", "--watch", "--draft"],
        ["experiment", "task", "e1"],
        ["experiment", "logs", "e1/work/x"],
        ["experiment", "results", "e1", "--output", "r.xlsx"],
        ["experiment", "delete", "e1", "--json"],
        ["config", "set", "colour", "red"],
        ["up", "--cpus", "many"],
    ],
)
def test_usage_errors_end_with_2(
    platform: FakePlatform, home: Path, document: str, arguments: list[str], capsys: Captured
) -> None:
    platform.lives = [experiment("e1", "RUNNING", 1)]
    given = [document if part == "DOCUMENT" else part for part in arguments]
    given += ["--home", str(home)] if given != ["nonsense"] else []
    assert main(given) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main([part for part in given if part != "--json"] + ["--json"]) == 2
    assert last_json(capsys)["error"]["code"] == "usage"


def test_an_unexpected_error_is_words_unless_debugging(
    platform: FakePlatform, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.lives = [{"id": "e1"}]
    assert main(["experiment", "status", "e1", "--home", str(home)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("AIRAVATA_DEBUG", "1")
    assert main(["experiment", "status", "e1", "--home", str(home)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_list_is_items_alone(platform: FakePlatform, home: Path, capsys: Captured) -> None:
    assert main(["experiment", "list", "--json", "--home", str(home)]) == 0
    assert last_json(capsys) == {"items": []}
    platform.listed = [experiment("e1", "RUNNING", 1, failed=1)]
    assert main(["experiment", "list", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "2/4 (1 failed)" in said
    assert "\x1b" not in said


def test_home_may_come_before_the_command(platform: FakePlatform, home: Path, capsys: Captured) -> None:
    assert main(["--home", str(home), "experiment", "list", "--json"]) == 0
    assert last_json(capsys) == {"items": []}


def test_dry_run_shows_what_it_amounts_to_and_submits_nothing(
    platform: FakePlatform, home: Path, document: str, capsys: Captured
) -> None:
    assert main(["experiment", "run", document, "--dry-run", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    for word in ("4 tasks", "work", "I=1", "note: slow"):
        assert word in said
    assert all(path != "/experiments" for _, path, _ in platform.requests)


def test_dry_run_with_a_plan_of_the_frontier_shows_that_plan(
    platform: FakePlatform, home: Path, document: str, capsys: Captured
) -> None:
    assert main(["experiment", "run", document, "--dry-run", "--plan", "1", "--home", str(home)]) == 0
    assert "Plan 1:" in capsys.readouterr().out
    bodies = [body for _, path, body in platform.requests if path == "/experiments/plan" and body]
    assert [body["frontier"] for body in bodies] == [True, False]
    assert isinstance(bodies[1]["document"], dict)
    assert "objective" in bodies[1]["document"]
    assert all(path != "/experiments" for _, path, _ in platform.requests)


def test_a_plan_is_shown_and_the_frontier_on_request(
    platform: FakePlatform, home: Path, document: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["experiment", "plan", document, "--home", str(home)]) == 0
    said = capsys.readouterr().out
    for word in (
        "4 tasks",
        "1 min 30 s (30.0 s to 3 min 20 s)",
        "0.25",
        "west: 4 (2)",
        "risk 3%",
        "2.0 GB (1.0 GB to 2.0 GB)",
    ):
        assert word in said
    assert "--plan" not in said
    picture = tmp_path / "frontier.png"
    words = ["experiment", "plan", document, "--frontier", "--png", str(picture), "--home", str(home)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "--plan N" in said
    assert "east: 1, west: 3" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["experiment", "plan", document, "--json", "--home", str(home)]) == 0
    assert last_json(capsys)["frontier"] is None
    assert all(path != "/experiments" for _, path, _ in platform.requests)


@pytest.mark.parametrize(
    ("placed", "finish"), [(0, "never, as things are"), (3, "1 min 30 s (30.0 s to 3 min 20 s) for the 3 tasks with")]
)
def test_no_finish_is_promised_for_tasks_without_a_place(
    platform: FakePlatform, home: Path, document: str, capsys: Captured, placed: int, finish: str
) -> None:
    platform.plan_differs = {"placed": placed, "unplaced": 4 - placed}
    assert main(["experiment", "plan", document, "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert finish in said
    assert "that tasks without a place miss" in said
    assert f"{4 - placed} have no place" in said
    assert not any(line.split()[:1] == ["at"] for line in said.splitlines())


def test_a_plan_of_the_frontier_becomes_objective_and_budget(
    platform: FakePlatform, home: Path, document: str, capsys: Captured
) -> None:
    platform.lives = [experiment("e1", "RUNNING", 0)]
    assert main(["experiment", "run", document, "--plan", "2", "--home", str(home)]) == 0
    assert "Plan 2: finish in 5 min 00 s, cost 0.1" in capsys.readouterr().out
    sent = platform.requests[-1][2]["document"]
    assert (sent["objective"], sent["budget"]) == ({"time": 0.0, "cost": 1.0}, 0.2)
    assert main(["experiment", "run", document, "--plan", "3", "--home", str(home)]) == 2
    assert "there are 1 to 2" in capsys.readouterr().err


def planned(frontier: bool) -> dict[str, Any]:
    expected = {"finish_s": 90.0, "finish_low_s": 30.0, "finish_high_s": 200.0, "cost": 0.25, "moved_bytes": 0.0}
    fast = {"number": 1, **expected, "deadline_risk": 0.03, "budget": None, "objective": {"time": 1.0, "cost": 0.0}}
    cheap = {
        **fast,
        "number": 2,
        "finish_s": 300.0,
        "cost": 0.1,
        "budget": 0.2,
        "objective": {"time": 0.0, "cost": 1.0},
    }
    points = [{**fast, "places": {"work": {"west": 4}}}, {**cheap, "places": {"work": {"west": 3, "east": 1}}}]
    runtime = {"mean_s": 45.0, "low_s": 20.0, "high_s": 80.0, "n": 0}
    step = {
        "name": "work", "n": 4, "request": {"cpu": 1.0}, "unplaced": 0, "reasons": [], "runtime": runtime,
        "runtime_on": {}, "failure_rate": 0.0, "failure_on": {}, "planned_memory_bytes": 2e9, "input_bytes": 0.0,
        "earlier_attempts": 0,
        "memory": {"asked_bytes": 0, "mean_bytes": 1.5e9, "low_bytes": 1e9, "high_bytes": 2e9, "largest_bytes": 2e9,
                   "n": 9},
        "places": [{"resource": "west", "tasks": 4, "places": 2, "start_in_s": 0.0}],
    }  # fmt: skip
    return {
        "name": "demo", "n_tasks": 4, **expected, "finish_at": "2031-05-01T12:00:00Z", "late_s": 0.0,
        "deadline_risk": 0.03, "placed": 4, "unplaced": 0, "budget": None, "deadline": "2031-05-01T13:00:00Z",
        "objective": {"time": 1.0}, "steps": [step], "resources": {"west": 4}, "planned_at": "2031-05-01T11:58:30Z",
        "solver": "flow", "gap": 0.0, "warnings": [], "frontier": points if frontier else None,
    }  # fmt: skip


def test_download_and_results(platform: FakePlatform, home: Path, tmp_path: Path, capsys: Captured) -> None:
    platform.lives = [experiment("e1", "SUCCEEDED", 4)]
    target = tmp_path / "out"
    assert main(["experiment", "download", "e1", "--output", str(target), "--json", "--home", str(home)]) == 0
    assert last_json(capsys)["files"] == 1
    assert (target / "work/0/out.txt").read_text() == "1\n"
    assert main(["experiment", "results", "e1", "--output", str(tmp_path / "r.csv"), "--home", str(home)]) == 0
    assert (tmp_path / "r.csv").read_text() == "I\n7\n"
    capsys.readouterr()
    assert main(["experiment", "results", "e1", "--home", str(home)]) == 0
    assert capsys.readouterr().out.split() == ["I", "7"]
    assert main(["experiment", "results", "e1", "--json", "--home", str(home)]) == 0
    assert last_json(capsys)["items"] == [{"experiment": "e", "I": 7, "nothing": None}]


@pytest.mark.parametrize("words", [["e1", "work", "0"], ["e1/work/0"]])
def test_logs_of_a_task_in_both_spellings(
    platform: FakePlatform, home: Path, capfdbinary: pytest.CaptureFixture[bytes], words: list[str]
) -> None:
    platform.lives = [experiment("e1", "RUNNING", 1)]
    assert main(["experiment", "logs", *words, "--home", str(home)]) == 0
    assert capfdbinary.readouterr().out == b"hello\n"
    assert platform.requests[-1][1] == "/experiments/e1/tasks/work/0/logs"


def test_commands_reach_their_routes(platform: FakePlatform, home: Path, capsys: Captured) -> None:
    platform.lives = [experiment("e1", "PAUSED", 1)]
    for verb in ("cancel", "pause", "resume", "retry", "resubmit", "derive", "start"):
        assert main(["experiment", verb, "e1", "--json", "--home", str(home)]) == 0
        assert last_json(capsys) == {"id": "e1", "status": "PAUSED"}
        assert platform.requests[-1][:2] == ("POST", f"/experiments/e1/{verb}")
    change = ["--select", "failed", "--change", "resources.compute.cpu=2", "--change", "name=new one", "-p", "N=1"]
    assert main(["experiment", "derive", "e1", *change, "--home", str(home)]) == 0
    body = platform.requests[-1][2]
    assert body["changes"] == {"resources": {"compute": {"cpu": 2}}, "name": "new one"}
    assert (body["select"], body["parameters"], body["start"]) == ("failed", {"N": "1"}, True)
    assert main(["experiment", "delete", "e1", "--yes", "--home", str(home)]) == 0
    assert platform.requests[-1][0] == "DELETE"


@pytest.mark.parametrize("option", ["--price-per-hour", "--egress-price", "--speed", "--bandwidth"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_to_calculate_with_is_wrong_usage(
    platform: FakePlatform, home: Path, option: str, value: str, capsys: Captured
) -> None:
    assert main(["resource", "update", "local", option, value, "--home", str(home)]) == 2
    assert f"= {value} is no number to calculate with" in capsys.readouterr().err
    assert not [request for request in platform.requests if request[0] == "PATCH"]


def test_config_is_remembered_and_used(platform: FakePlatform, home: Path, document: str, capsys: Captured) -> None:
    platform.lives = [experiment("e1", "RUNNING", 0)]
    assert main(["config", "get", "project", "--home", str(home)]) == 5
    assert main(["config", "set", "project", "mine", "--home", str(home)]) == 0
    capsys.readouterr()
    assert main(["config", "get", "project", "--home", str(home)]) == 0
    assert capsys.readouterr().out == "mine\n"
    assert main(["experiment", "run", document, "--home", str(home)]) == 0
    assert platform.requests[-1][2]["project"] == "mine"


def test_every_error_of_the_client_has_its_exit_code() -> None:
    expected = {
        errors.ApiError: 1,
        errors.InvalidRequestError: 2,
        errors.ConflictError: 1,
        errors.NotAuthenticatedError: 3,
        errors.NotAllowedError: 3,
        errors.UnavailableError: 4,
        errors.RateLimitedError: 4,
        errors.UnreachableError: 4,
        errors.NotFoundError: 5,
        errors.InvalidDocumentError: 6,
    }
    assert {kind: failures.exit_code(kind("x")) for kind in expected} == expected
