#!/usr/bin/env bash
# Writes the lock files: every version with its hashes, for Python 3.11 to 3.13, without the address of any package index.
# Versions that are locked already stay as they are; `make lock UPGRADE=1` takes the newest that fit pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
unset UV_FIND_LINKS PIP_FIND_LINKS

compile() {
    local output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "make lock" ${UPGRADE:+--upgrade} --output-file "$output" "$@"
}

compile requirements/dev.txt pyproject.toml --group dev --all-extras
# What users install is what was tested: the runtime lock is a part of the development lock.
compile requirements/runtime.txt pyproject.toml --constraints requirements/dev.txt
compile requirements/bootstrap.txt requirements/bootstrap.in
# The benchmarks' peers live in an environment of their own, so their versions and ours do not bind each other.
compile requirements/peers.txt requirements/peers.in

if grep -nE '://|--(index|extra|find)' requirements/{dev,runtime,bootstrap,peers}.txt; then
    echo "A lock file names the address of a package index (lines above): it must not." >&2
    exit 1
fi
