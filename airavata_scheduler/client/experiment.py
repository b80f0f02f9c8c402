"""Experiments made in Python: a builder whose result is the same document that a YAML file holds."""

from __future__ import annotations

import html
import inspect
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

Names = str | Sequence[str]
PythonFunction = str | Callable[..., Any]


class Experiment:
    """A named set of steps. `tasks`, `parameters` and further `fields` are as in the experiment document.

    Every method that adds something returns the experiment, so calls can be chained.
    """

    def __init__(
        self,
        name: str = "experiment",
        *,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        parameters: Mapping[str, Any] | None = None,
        scripts: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        self.name = name
        self._tasks: dict[str, dict[str, Any]] = {key: dict(task) for key, task in (tasks or {}).items()}
        self._scripts = dict(scripts or {})
        self._fields = {"parameters": dict(parameters or {}), "results": dict(results or {}), **fields}

    @classmethod
    def sweep(
        cls,
        name: str = "sweep",
        *,
        command: Sequence[str] | None = None,
        script: str | Path | None = None,
        python: PythonFunction | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        sample: Mapping[str, Any] | None = None,
        step: str = "run",
        **fields: Any,
    ) -> Self:
        """One program over many parameters: an experiment with one step, called `step`; more steps can be added.

        `fields` are those of the document, such as `parameters`, `deadline` or `resources`.
        """
        return cls(name, **fields).step(
            step,
            command=command,
            script=script,
            python=python,
            inputs=inputs,
            outputs=outputs,
            results=results,
            sample=sample,
        )

    def step(
        self,
        name: str,
        *,
        command: Sequence[str] | None = None,
        script: str | Path | None = None,
        python: PythonFunction | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | None = None,
        results: Mapping[str, str] | None = None,
        sample: Mapping[str, Any] | None = None,
        foreach: Names = (),
        gather: Names = (),
        depends_on: Names = (),
        **fields: Any,
    ) -> Self:
        """Add a step that runs exactly one of `command`, `script` (its text, or the `Path` of a file) and `python`.

        `inputs`: name -> one value, or values (a list, a `range`, an array, "1..100", {"linspace": [0, 1, 11]}).
        `python` is a function of a module that can be imported, or "module:function"; its arguments are the inputs.
        `fields` are those of a task in the document, such as `retry`, `timeout` or `resources`. Raises `ValueError`
        when it cannot be a step.
        """
        if name in self._tasks:
            raise ValueError(f"there is a step {name!r} already: choose another name")
        if sum(program is not None for program in (command, script, python)) != 1:
            raise ValueError(f"step {name!r} needs exactly one of command, script and python")
        task: dict[str, Any] = dict(fields)
        if command is not None:
            task["command"] = [str(part) for part in command]
        if script is not None:
            self._scripts[name] = script.read_text(encoding="utf-8") if isinstance(script, Path) else script
            task["script"] = name
        if python is not None:
            task.update(_python_fields(python, task.get("python_path", ())))
        task["task_inputs"] = {key: _values(value) for key, value in (inputs or {}).items()}
        task["task_outputs"] = dict(outputs or {})
        task["results"] = dict(results or {})
        task["sample"] = dict(sample) if sample else None
        for key, names in (("foreach", foreach), ("gather", gather), ("depends_on", depends_on)):
            task[key] = [names] if isinstance(names, str) else list(names)
        self._tasks[name] = {key: value for key, value in task.items() if value not in (None, {}, [])}
        return self

    def document(self) -> dict[str, Any]:
        """The experiment document, as the YAML file would hold it."""
        given = {key: value for key, value in self._fields.items() if value not in (None, {}, [])}
        scripts = {"scripts": dict(self._scripts)} if self._scripts else {}
        return {"name": self.name, **given, **scripts, "tasks": {key: dict(task) for key, task in self._tasks.items()}}

    def to_yaml(self) -> str:
        """The document as text, to keep beside the results or to run with `airavata experiment run`."""
        import yaml  # noqa: PLC0415  (loaded when it is needed)

        from airavata_scheduler.client.submission import plain  # noqa: PLC0415  (loaded when it is needed)

        return str(yaml.safe_dump(plain(self.document()), sort_keys=False, allow_unicode=True))

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, steps={list(self._tasks)})"

    def _repr_html_(self) -> str:
        return f"<b>{html.escape(self.name)}</b> (not submitted)<pre>{html.escape(self.to_yaml())}</pre>"


def _values(value: Any) -> Any:
    """A range as `first..last..step`, other series as lists, everything else as it is."""
    if isinstance(value, range) and len(value):
        step = f"..{value.step}" if value.step != 1 else ""
        return f"{value[0]}..{value[-1]}{step}" if len(value) > 1 else [value[0]]
    if isinstance(value, str | bytes | Mapping):
        return value
    return list(value) if isinstance(value, Iterable) else value


def _python_fields(function: PythonFunction, python_path: Iterable[str]) -> dict[str, Any]:
    if isinstance(function, str):
        return {"python": function}
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", "")
    if not name or "<" in name:
        raise ValueError(f"{function!r} has no name that can be imported: define it at the top level of a module")
    file = inspect.getsourcefile(inspect.unwrap(function))
    if not file or not Path(file).exists():
        raise ValueError(f"{name} is not in a file that other processes can import: put it into a module (a .py file)")
    if module == "__main__":
        module = Path(file).stem
        root = Path(file).resolve().parent
    else:
        root = Path(file).resolve().parents[module.count(".") + (Path(file).name == "__init__.py")]
    fields: dict[str, Any] = {"python": f"{module}:{name}"}
    importable = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")}
    path = list(python_path) + ([] if root in importable else [str(root)])
    return {**fields, "python_path": path} if path else fields
