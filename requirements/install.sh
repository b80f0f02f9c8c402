#!/usr/bin/env bash
# Makes .venv from the lock files: a Python that fits, uv (pip where uv does not work), the project itself.
# AIRAVATA_PYTHON names the interpreter to use; else the first one below that works is taken.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

find_python() {
    local candidate found=""
    local candidates=${AIRAVATA_PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}
    for candidate in $candidates; do
        usable "$candidate" || continue
        found=$candidate
        # ensurepip is what Debian leaves out of python3 and ships as python3-venv.
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    if [ -n "$found" ]; then
        echo "$found cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2
    else
        echo "Python 3.11, 3.12 or 3.13 is needed; tried:" >&2
        for candidate in $candidates; do
            echo "  $candidate: $("$candidate" --version 2>&1 | tail -1 || true)" >&2
        done
        echo "Install one (Debian 12: apt-get install python3 python3-venv) or name it: make AIRAVATA_PYTHON=/path/to/python3.12" >&2
    fi
    return 1
}

if ! usable "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Setting up $venv with $("$python" --version) (once; takes a minute or two)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@"
}

with_uv() {
    # uv does not read pip's settings, so a mirror that is set for pip is handed on.
    local index
    index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    # uv trusts its own list of certificates unless told otherwise, which fails behind a proxy that has one of its own.
    local certificates=""
    [ ! -s /etc/ssl/certs/ca-certificates.crt ] || certificates=--system-certs
    pip install --quiet --require-hashes -r requirements/bootstrap.txt &&
        "$venv/bin/uv" --no-config $certificates pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
}

if ! with_uv; then
    echo "uv could not install the packages (see above); pip does it, which takes longer" >&2
    pip install --quiet --require-hashes -r requirements/dev.txt
fi
# The build back end is in the lock file; nothing unlocked may come in through build isolation.
pip install --quiet --no-deps --no-build-isolation --no-index --editable .
