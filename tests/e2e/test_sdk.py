"""The Python SDK from a driver script: submit, wait, results."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from airavata_scheduler.client import Client, Experiment, InvalidDocumentError, NotFoundError, RunFailedError

if TYPE_CHECKING:
    from conftest import Platform


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with Client(home=platform.home) as connected:
        yield connected


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    text = """
    import os

    CALLS = 0

    def pendulum(length, damping):
        global CALLS
        CALLS += 1
        return {"period": 2 * length + damping, "calls": CALLS, "pid": os.getpid()}

    def fails(x):
        raise ValueError(f"{x} is too small")
    """
    (folder / "e2e_model.py").write_text(textwrap.dedent(text))
    return folder


def test_sweep_of_a_python_function(client: Client, model: Path) -> None:
    experiment = Experiment.sweep(
        "pendulum",
        python="e2e_model:pendulum",
        inputs={"length": range(1, 6), "damping": [0.5, 1.5]},
        results={"period": "return#/period", "calls": "return#/calls", "pid": "return#/pid"},
    ).document()
    experiment["tasks"]["run"]["python_path"] = [str(model)]
    run = client.submit(experiment).wait(check=True)
    assert run.state["tasks"]["succeeded"] == 10
    table = run.results()
    assert isinstance(table, pa.Table)
    expected = [2 * length + damping for length in range(1, 6) for damping in (0.5, 1.5)]
    assert table["period"].to_pylist() == expected
    frame = run.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.query("damping == 0.5")["length"]) == [1, 2, 3, 4, 5]
    assert frame["pid"].nunique() <= 4, "functions run in processes that stay warm"
    assert frame["calls"].max() > 1


def test_exception_of_a_function_is_the_reason(client: Client, model: Path) -> None:
    task = {"python": "e2e_model:fails", "python_path": [str(model)], "task_inputs": {"x": [1]}, "retry": 1}
    task["retry"] = {"max_attempts": 1}
    run = client.submit({"name": "fails", "tasks": {"run": task}})
    with pytest.raises(RunFailedError):
        run.wait(check=True)
    assert "1 is too small" in run.logs("run", 0, stream="stderr")


def test_steps_results_and_outputs(client: Client, tmp_path: Path) -> None:
    experiment = (
        Experiment("letters")
        .step("one", script='printf "%s" "$L" > "$OUT"', inputs={"L": ["a", "b", "c"]}, outputs={"OUT": "l.txt"})
        .step(
            "all",
            script='for f in $(cat "$ALL"); do cat "$f"; done > "$WORD"',
            gather="one",
            inputs={"ALL": "${one.OUT}"},
            outputs={"WORD": "w.txt"},
        )
    )
    run = client.submit(experiment).wait(check=True)
    assert run.output("all", 0, "WORD") == b"abc"
    assert run.download(tmp_path).files == 4
    assert (tmp_path / "all/0/w.txt").read_text() == "abc"
    assert client.run(run.id[:6]).id == run.id or len(run.id) <= 6
    assert client.run("last").id == run.id


def test_wait_gives_up_and_the_experiment_goes_on(client: Client) -> None:
    run = client.submit({"tasks": {"a": {"command": ["sleep", "600"]}}})
    with pytest.raises(TimeoutError):
        run.wait(timeout_s=0.2)
    assert run.status() == "RUNNING"
    assert run.cancel("enough").wait().state["status"] == "CANCELED"


def test_errors_have_types_and_places(client: Client) -> None:
    with pytest.raises(InvalidDocumentError) as raised:
        client.submit({"tasks": {"a": {"command": ["true"], "colour": "red"}, "b": {"script": "none"}}})
    assert {problem.path for problem in raised.value.problems} >= {"tasks.a.colour"}
    assert len(raised.value.problems) == 2
    with pytest.raises(NotFoundError):
        client.run("e-nowhere")


def test_same_key_is_the_same_experiment(client: Client) -> None:
    document: dict[str, Any] = {"name": "key", "tasks": {"a": {"command": ["true"]}}}
    first = client.submit(document, idempotency_key="e2e-key")
    assert client.submit(document, idempotency_key="e2e-key").id == first.id
    assert client.submit(document).id != first.id
