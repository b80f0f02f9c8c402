"""What import-linter cannot say about the shape of the code, and what the lock files may not contain."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airavata_scheduler"
OURS = PACKAGE.name
WORKER_MAY_IMPORT = frozenset(
    f"{OURS}.platform.domain.{name}" for name in ("messages", "states", "failures", "request", "encoding")
)
MAY_IMPORT_RAY = (
    "actors/",
    "api/",
    "bootstrap.py",
    "adapters/actor_calls/",
    "adapters/compute/",
    "adapters/worker_channel/",
)
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
#: A name that says nothing about what is inside.
VAGUE_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "misc", "stuff"})
MODULES = sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, anywhere in it: `from a import b` yields `a.b` if that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parent.parts)
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if is_module(name) else source


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def module_path(name: str) -> Path:
    path = ROOT / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def packages_of(name: str) -> Iterator[str]:
    """The packages that Python imports on the way to a module: their __init__ files run as well."""
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts)))


def test_a_worker_needs_only_the_standard_library_and_five_modules_of_the_domain() -> None:
    shared = {*WORKER_MAY_IMPORT, *(package for name in WORKER_MAY_IMPORT for package in packages_of(name))}
    sources = [*(PACKAGE / "worker").rglob("*.py"), *(module_path(name) for name in shared)]
    forbidden = [
        f"{relative(source)} imports {name}"
        for source in sources
        for name in imported_modules(source)
        if name.split(".")[0] not in sys.stdlib_module_names
        and name not in shared
        and not name.startswith(f"{OURS}.worker")
    ]
    assert not forbidden


def test_ray_is_imported_only_where_processes_meet() -> None:
    importers = [path for path in MODULES if any(name.split(".")[0] == "ray" for name in imported_modules(path))]
    strangers = [relative(p) for p in importers if not p.relative_to(PACKAGE).as_posix().startswith(MAY_IMPORT_RAY)]
    assert not strangers


@pytest.mark.parametrize("module", ["client", "cli.main"])
def test_client_and_command_load_without_ray(module: str) -> None:
    """Whatever import-linter cannot follow (lazy imports, plug-ins) shows up in the modules that are really loaded."""
    if not is_module(f"{OURS}.{module}"):
        pytest.fail(f"{OURS}.{module} is gone: name the new entry point here")
    program = f"import sys, {OURS}.{module}; sys.exit('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr or "ray was imported"


def test_a_command_imports_only_what_it_needs(tmp_path: Path) -> None:
    program = (
        f"import sys; from {OURS}.cli.main import main; main(['experiment', 'list', '--json', '--home', sys.argv[1]]);"
        "sys.exit(', '.join({'httpx', 'yaml', 'rich', 'pygments', 'pyarrow', 'pydantic_settings'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip().endswith("httpx"), "it would have asked the platform, and loaded nothing else"


def test_a_process_imports_only_what_its_own_service_is_made_of() -> None:
    """Imports are most of the time until a killed actor is back; what only some need is imported where it is used."""
    others = {"numpy", "ortools", "jwt", "limits", "cryptography", "ray"}
    program = f"import sys, {OURS}.bootstrap; print({others} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_files_and_functions_fit_in_a_head(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= MAX_FILE_LINES, "one file, one idea: split it"
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [relative(path) for path in MODULES if VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)]


def test_test_files_have_unique_names_and_no_packages() -> None:
    files = list((ROOT / "tests").rglob("*.py"))
    assert not [relative(path) for path in files if path.name == "__init__.py"]
    counts = Counter(path.name for path in files if path.name.startswith("test_"))
    assert not [name for name, count in counts.items() if count > 1]


@pytest.mark.parametrize("name", ["dev.txt", "runtime.txt", "bootstrap.txt"])
def test_lock_files_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert not re.findall(r"^.*(?:://|--index|--extra-index|--find-links|@ file|/opt/|/home/).*$", text, re.MULTILINE)
    entries = re.findall(r"^([A-Za-z0-9._-]+)==.*?(?=^[A-Za-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    hashed = re.findall(r"^[A-Za-z0-9._-]+==[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert entries
    assert len(entries) == len(hashed)


def test_the_runtime_lock_is_a_part_of_the_development_lock() -> None:
    runtime, dev = (locked_versions(name) for name in ("runtime.txt", "dev.txt"))
    assert runtime.items() <= dev.items()


def locked_versions(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))
