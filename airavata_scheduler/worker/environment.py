"""What a task finds in its environment: a clean base, the program's own variables, parameters, outputs, our names.

Nothing of the worker's own environment leaks in, so no secret and no RAY_ or AIRAVATA_ variable of the platform does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airavata_scheduler.platform.domain.encoding import encode_value

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH")


def base_environment(worker: Mapping[str, str]) -> dict[str, str]:
    """The harmless part of the worker's environment, with defaults."""
    found = {name: worker[name] for name in _PASSED_ON if worker.get(name)}
    return {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "USER": "airavata", **found}


def program_environment(program: Mapping[str, Any], base: Mapping[str, str], gpus_on_worker: bool) -> dict[str, str]:
    """The part that all tasks of a program share; ``program`` as in `wire.program_to_wire`."""
    cpu = program["cpu"]
    environment = {
        **base,
        "OMP_NUM_THREADS": str(max(1, int(cpu))),
        "AIRAVATA_EXPERIMENT": program["experiment"],
        "AIRAVATA_STEP": program["step"],
        "AIRAVATA_CPUS": encode_value(cpu),
    }
    if gpus_on_worker:
        environment["CUDA_VISIBLE_DEVICES"] = environment["NVIDIA_VISIBLE_DEVICES"] = ""
    return {**environment, **program["environment"]}


def add_task_variables(
    environment: dict[str, str],
    parameters: Mapping[str, Any],
    directory: str,
    outputs: Mapping[str, str],
    identity: tuple[int, int, int],
) -> None:
    """Add the part that differs from attempt to attempt. ``identity`` is (step id, index, attempt)."""
    step_id, index, attempt = identity
    for name, value in parameters.items():
        environment[name] = encode_value(value)
    for name, path in outputs.items():
        environment[name] = f"{directory}/{path}"
    environment["AIRAVATA_INDEX"] = str(index)
    environment["AIRAVATA_ATTEMPT"] = str(attempt)
    environment["AIRAVATA_TASK"] = f"{step_id}.{index}.{attempt}"
    environment["TMPDIR"] = directory
