"""The experiment document as types: what may be written, and what each field means.

These models check one field at a time. What depends on several fields (references, cycles, sizes of sweeps) is checked
by :mod:`.document_steps`, and everything is put together by :mod:`.document`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from airavata_scheduler.platform.domain.document_problems import UnfitError
from airavata_scheduler.platform.domain.encoding import encode_value
from airavata_scheduler.platform.domain.errors import shorten
from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.quantities import (
    DEADLINE_FORMS,
    DURATION_FORMS,
    SIZE_FORMS,
    parse_deadline,
    parse_duration,
    parse_size,
)

STEP_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,99}"
VARIABLE_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
RESERVED_PREFIX = "AIRAVATA_"
#: Names whose change would break the program or the platform instead of parametrizing anything.
RESERVED_NAMES = frozenset(
    {"PATH", "HOME", "PWD", "SHELL", "IFS", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
)


def _named(pattern: str, what: str, remedy: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(name: str) -> str:
        if not compiled.fullmatch(name):
            raise UnfitError(f"{name!r} is not {what}", remedy)
        return name

    return check


def _parameter_name(name: str) -> str:
    _named(VARIABLE_NAME, "the name of an environment variable", "use letters, digits and _, such as LEARNING_RATE")(
        name
    )
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
        raise UnfitError(f"{name} is reserved, because parameters become environment variables", "choose another name")
    return name


def _environment_name(name: str) -> str:
    _named(VARIABLE_NAME, "the name of an environment variable", "use letters, digits and _")(name)
    if name.startswith(RESERVED_PREFIX) or name == "CUDA_VISIBLE_DEVICES":
        raise UnfitError(f"{name} is set by the platform", "leave it out")
    return name


def _output_path(path: str) -> str:
    pure = PurePosixPath(path)
    if not path.strip() or path.endswith("/") or pure.is_absolute() or ".." in pure.parts or path.startswith("~"):
        raise UnfitError(
            f"{path!r} leaves the working directory or names no file", "write a path below it, such as results/out.json"
        )
    if str(pure) == "." or len(path) > 1000:
        raise UnfitError(f"{path[:80]!r} is not the path of a file", "write a path such as results/out.json")
    return str(pure)


def _quantity(parse: Callable[[Any], Any], forms: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise UnfitError(f"{shorten(value)} {error}", forms) from None

    return read


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return encode_value(value) if isinstance(value, bool | int | float) else value


def _retry(value: Any) -> Any:
    return {"max_attempts": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _deadline(value: Any, info: ValidationInfo) -> Any:
    now = (info.context or {}).get("now")
    if now is None:
        raise UnfitError("a deadline needs the present time", "use parse_document")
    return _quantity(lambda found: parse_deadline(found, now), DEADLINE_FORMS)(value)


def _no_line_breaks(text: str) -> str:
    if any(not c.isprintable() for c in text):
        raise UnfitError("contains a line break or another control character", "write one line")
    return text


_SIZE_SCHEMA = WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": ["4GB"]})
_DURATION_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}], "examples": ["1h30m"]}
)
Size = Annotated[int, BeforeValidator(_quantity(parse_size, SIZE_FORMS)), _SIZE_SCHEMA]
Duration = Annotated[float, BeforeValidator(_quantity(parse_duration, DURATION_FORMS)), _DURATION_SCHEMA]
Deadline = Annotated[
    float,
    BeforeValidator(_deadline),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}], "examples": ["2031-05-01T12:00:00Z", "8h"]}),
]
StepName = Annotated[
    str,
    AfterValidator(_named(STEP_NAME, "a name of a step", "start with a letter; use letters, digits, _ and -")),
    WithJsonSchema({"type": "string", "pattern": f"^{STEP_NAME}$"}),
]
ParameterName = Annotated[
    str, AfterValidator(_parameter_name), WithJsonSchema({"type": "string", "pattern": f"^{VARIABLE_NAME}$"})
]
EnvironmentName = Annotated[
    str, AfterValidator(_environment_name), WithJsonSchema({"type": "string", "pattern": f"^{VARIABLE_NAME}$"})
]
OutputPath = Annotated[str, AfterValidator(_output_path)]
Text = Annotated[
    str, BeforeValidator(_text), WithJsonSchema({"anyOf": [{"type": t} for t in ("string", "number", "boolean")]})
]
Line = Annotated[str, AfterValidator(_no_line_breaks)]
_LIST_OR_ONE = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
Steps = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), _LIST_OR_ONE]
Lines = Annotated[tuple[Line, ...], BeforeValidator(_one_or_many), _LIST_OR_ONE]
Function = Annotated[
    str,
    AfterValidator(
        _named(
            r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*",
            "a function of a module",
            "write module:function, such as analysis.fit:run",
        )
    ),
]
Column = Annotated[
    str, AfterValidator(_named(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", "a name of a column", "use letters, digits and _"))
]
ParameterType = Literal[
    "string", "str", "int", "integer", "float", "number", "bool", "boolean", "path", "list", "json", "any"
]


class Model(BaseModel):
    """What is written must be known, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=4_000_000)


class Parameter(Model):
    """A value with a name, which `--param NAME=VALUE` replaces."""

    description: str = ""
    type: ParameterType = "any"
    default: Any = None


class Compute(Model):
    """What one task needs while it runs."""

    node: Annotated[int, Field(ge=1, description="Number of machines; this version supports 1.")] | None = None
    cpu: Annotated[float, Field(gt=0, description="Cores; fractions are possible. 1 if left out.")] | None = None
    gpu: Annotated[float, Field(ge=0, description="Graphics processors; fractions share one.")] | None = None
    memory: Size | None = Field(None, description="Main memory, such as 4GB; also the limit. None: no claim, no limit.")
    ram_gb: Annotated[float, Field(gt=0, le=1e6, description="The same in units of 10^9 bytes.")] | None = None
    disk_gb: Annotated[float, Field(ge=0, le=1e9, description="Space in the working directory, 10^9 bytes.")] | None = (
        None
    )
    vram_gb: Annotated[float, Field(ge=0)] | None = Field(None, description="Not supported in this version.")
    time: Duration | None = Field(None, description="How long a task is expected to run; for planning, not a limit.")
    named: dict[Line, Annotated[float, Field(gt=0)]] = Field({}, description="Licences and the like: name -> amount.")


class Resources(Model):
    """What every task needs, unless the task says otherwise."""

    compute: Compute = Compute()
    environment: dict[EnvironmentName, Text] = {}
    storage: Any = Field(None, description="Not supported in this version.")
    conda: Any = Field(None, description="Not supported in this version.")
    pip: Any = Field(None, description="Not supported in this version.")


class Retry(Model):
    """When a failed task is tried again. A whole number is short for max_attempts."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    on: Annotated[tuple[Cause, ...], BeforeValidator(_one_or_many)] = (
        Cause.EXIT_CODE,
        Cause.TIMEOUT,
        Cause.OUT_OF_MEMORY,
        Cause.MISSING_OUTPUT,
        Cause.STAGING,
    )
    backoff_s: Annotated[float, Field(ge=0, le=86400)] = 1.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max_backoff_s: Annotated[float, Field(ge=0, le=86400)] = 300.0


class SampleSpec(Model):
    """Draw n points from the values of the parameters instead of trying every combination."""

    method: Literal["latin_hypercube", "sobol", "random"]
    n: Annotated[int, Field(ge=1, le=1 << 32)]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    over: Annotated[tuple[str, ...], BeforeValidator(_one_or_many), _LIST_OR_ONE] = ()


class Objective(Model):
    """What matters, as weights; only their proportions count."""

    time: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    cost: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    deadline: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    locality: Annotated[float, Field(ge=0, le=1e6)] = 0.0


PRESETS: dict[str, Objective] = {
    "balanced": Objective(time=0.4, cost=0.3, deadline=0.2, locality=0.1),
    "fastest": Objective(time=0.85, cost=0.0, deadline=0.1, locality=0.05),
    "cheapest": Objective(time=0.05, cost=0.85, deadline=0.05, locality=0.05),
    "on_time": Objective(time=0.1, cost=0.2, deadline=0.65, locality=0.05),
    "local": Objective(time=0.15, cost=0.1, deadline=0.05, locality=0.7),
}


def _objective(value: Any) -> Any:
    if isinstance(value, str):
        if value not in PRESETS:
            raise UnfitError(f"there is no objective {value!r}", f"use {', '.join(PRESETS)}, or weights")
        return PRESETS[value]
    return value


RetrySpec = Annotated[
    Retry, BeforeValidator(_retry), WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "object"}]})
]
ObjectiveSpec = Annotated[
    Objective,
    BeforeValidator(_objective),
    WithJsonSchema({"anyOf": [{"enum": list(PRESETS)}, {"type": "object"}]}),
]
Priority = Annotated[int, Field(ge=-1000, le=1000)]


class Task(Model):
    """A step: one program, run once for each combination of its inputs."""

    description: str = ""
    script: str | None = Field(None, description="A name under `scripts`.")
    command: tuple[Text, ...] | None = Field(None, description="The program and its arguments; no shell is involved.")
    python: Function | None = Field(None, description="module:function, run in a warm process.")
    python_path: Lines = ()
    task_inputs: dict[ParameterName, Any] = {}
    rows: Any = Field(None, description="A table: a list of {parameter: value}, or a CSV or JSON file.")
    sweep: Any = Field("product", description="product, zip, or {zip: [A, B]}.")
    sample: SampleSpec | None = None
    task_outputs: dict[ParameterName, OutputPath] = {}
    foreach: Steps = ()
    gather: Steps = ()
    depends_on: Steps = ()
    environment: dict[EnvironmentName, Text] = {}
    resources: Compute = Compute()
    retry: RetrySpec | None = None
    timeout: Duration | None = None
    grace: Duration | None = Field(None, description="Time between TERM and KILL.")
    max_output: Size | None = Field(None, description="Bytes kept of standard output, and the same of standard error.")
    priority: Priority | None = None
    results: dict[Column, str] = {}
    allow: Lines | None = None
    deny: Lines | None = None


def _parameter(value: Any) -> Any:
    return value if isinstance(value, dict | Parameter) else {"default": value}


ParameterSpec = Annotated[Parameter, BeforeValidator(_parameter), WithJsonSchema({})]


class ExperimentDocument(Model):
    """A whole experiment."""

    name: Annotated[Line, Field(min_length=1, max_length=200)] = "experiment"
    description: str = ""
    tags: Annotated[tuple[Annotated[Line, Field(min_length=1, max_length=100)], ...], Field(max_length=100)] = ()
    parameters: dict[ParameterName, ParameterSpec] = {}
    scripts: dict[str, str] = {}
    tasks: Annotated[dict[StepName, Task], Field(min_length=1, max_length=1000)]
    resources: Resources = Resources()
    environment: dict[EnvironmentName, Text] = {}
    retry: RetrySpec = Retry()
    timeout: Duration | None = None
    grace: Duration = 5.0
    max_output: Size = 10 * 1024 * 1024
    priority: Priority = 0
    deadline: Deadline | None = Field(None, description="A date with a time zone, or a duration from now.")
    hard_deadline: bool = Field(
        False, description="Start nothing that would end after the deadline; pause when nothing else is left."
    )
    budget: Annotated[float, Field(ge=0)] | None = Field(None, description="Most that may be spent on this experiment.")
    objective: ObjectiveSpec = PRESETS["balanced"]
    allow: Lines = Field((), description="Names of resources; others are not used.")
    deny: Lines = Field((), description="Names of resources that are not used.")
    results: dict[Column, str] = Field({}, description="Column -> step.OUTPUT#/pointer.")
