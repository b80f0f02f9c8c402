# Everything below sets up what it lacks: a machine with Python 3.11 to 3.13, make and git is enough.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

STAMP := .venv/.stamp
PY := .venv/bin/python
# Ray would otherwise start every worker through `uv run`; a folder named `platform` must never shadow the standard one.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0
export PYTHONSAFEPATH := 1
export PYTHONPATH :=
# Passed on by hand: make bench BENCH_ARGS=--quick, make test PYTEST_ARGS="-k sweep -x", make up UP_ARGS="--http-port 8080"
PYTEST_ARGS ?=
UP_ARGS ?=
BENCH_ARGS ?=
export AIRAVATA_PYTHON ?=

# Tests of the whole platform share one cluster and two cores; the others run side by side.
TIERS_WITHOUT_RAY := $(wildcard tests/unit tests/conformance tests/simulation)
CHECKED := airavata_scheduler tests benchmarks examples

.PHONY: help setup demo test test-fast test-integration test-e2e check format bench up down lock docs clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements/dev.txt requirements/bootstrap.txt requirements/install.sh
	@requirements/install.sh
	@touch $@

setup: $(STAMP) ## The environment in .venv

demo: $(STAMP) ## A real sweep with a dependent step, its table and its plot (under four minutes)
	@$(PY) -m examples.demo

test: $(STAMP) ## All tiers; all of them run even when one fails
	@failed=""; for tier in test-fast test-integration test-e2e; do \
	    echo "== $$tier"; $(MAKE) --no-print-directory $$tier || failed="$$failed $$tier"; \
	done; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed" >&2; exit 1; fi

test-fast: $(STAMP) ## Unit, conformance and simulation: no Ray
	@$(PY) -m pytest $(TIERS_WITHOUT_RAY) -n 2 --dist worksteal $(PYTEST_ARGS)

test-integration: $(STAMP) ## Against real servers
	@$(PY) -m pytest tests/integration -n 2 --dist loadfile $(PYTEST_ARGS)

test-e2e: $(STAMP) ## The platform as a user sees it
	@$(PY) -m pytest tests/e2e $(PYTEST_ARGS)

check: $(STAMP) ## Style, types, import directions, dependencies, dead code; all of them run even when one fails
	@failed=""; run() { local name=$$1; shift; echo "== $$name"; "$$@" || failed="$$failed $$name"; }; \
	run ruff-check .venv/bin/ruff check .; \
	run ruff-format .venv/bin/ruff format --check .; \
	run mypy .venv/bin/mypy; \
	run lint-imports .venv/bin/lint-imports; \
	run deptry .venv/bin/deptry airavata_scheduler; \
	run vulture .venv/bin/vulture; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed" >&2; exit 1; fi

format: $(STAMP) ## Rewrite what ruff can
	@.venv/bin/ruff check --fix . || true
	@.venv/bin/ruff format .

bench: $(STAMP) ## All figures beside the last kept: make bench BENCH_ARGS="--quick", or "--keep" to keep them
	@$(PY) -m benchmarks $(BENCH_ARGS)

up: $(STAMP) ## Start the platform: make up UP_ARGS="--http-port 8080"
	@.venv/bin/airavata up --detach $(UP_ARGS)

down: $(STAMP) ## End what `make up` started
	@.venv/bin/airavata down $(UP_ARGS)

lock: $(STAMP) ## Lock files anew after a change of pyproject.toml (UPGRADE=1: to the newest versions)
	@requirements/lock.sh

docs: $(STAMP) ## docs/cli.md from the command itself
	@$(PY) -m airavata_scheduler.cli.reference

clean: ## Remove the environment and everything generated
	@rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf demo-output
