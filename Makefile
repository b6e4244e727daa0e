# One line for each thing a person does here. Everything runs in .venv, which is built from the pinned
# locks in deploy/ the first time it is needed and left alone while they stay the same.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test coverage gates format lint types imports security audit lock pace simulate crash disk planning signals readers planted mutation bench bench-large bench-readme clean

BIN := .venv/bin
EDITION := pyproject.toml worker/__init__.py

# The first interpreter that is new enough; override with `make PYTHON=/path/to/python test`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --require-virtualenv
# The locks are whole, so pip has nothing to look up: left to resolve, it would take a release made since for a
# dependency that is named with an extra, find no hash for it, and fail.
LOCKED := $(PIP) --require-hashes --no-deps
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

help: ## show these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r t h; do printf '  make %-13s %s\n' "$$t" "$$h"; done

demo: .venv/runtime.stamp ## rehearse a run of a few hundred faces against the built-in sandbox
	$(BIN)/facepurge run configs/examples/retention.csv configs/examples/erasure-requests.jsonl --sandbox --yes

# Tests at the same time; many of them mostly wait.
JOBS ?= 2

test: .venv/dev.stamp ## every test (JOBS)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

coverage: .venv/dev.stamp ## every test, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

gates: format lint types imports security ## every gate that needs no network

format: .venv/dev.stamp ## gate: the code is formatted
	$(BIN)/ruff format --check .

lint: .venv/dev.stamp ## gate: ruff, every rule
	$(BIN)/ruff check .

types: .venv/dev.stamp ## gate: mypy, strict
	$(BIN)/mypy

imports: .venv/dev.stamp ## gate: which part may import which
	$(BIN)/lint-imports --no-cache --no-logo

security: .venv/dev.stamp ## gate: bandit, and ruff's security rules
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml worker
	$(BIN)/ruff check --select S --ignore S101 worker

audit: .venv/dev.stamp ## gate: known vulnerabilities in what the locks name (needs the network)
	$(BIN)/python .ci/audit.py deploy/build.lock deploy/runtime.lock deploy/dev.lock

lock: .venv/dev.stamp ## write the locks in deploy/ again from pyproject.toml
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "make: the locks are made with Python 3.11, the oldest that is supported: make clean lock PYTHON=python3.11" >&2; exit 2; }
	$(COMPILE) --only-build-deps --build-deps-for editable --build-deps-for wheel --output-file deploy/build.lock pyproject.toml
	$(COMPILE) --output-file deploy/runtime.lock pyproject.toml
	$(COMPILE) --extra dev --constraint deploy/runtime.lock --output-file deploy/dev.lock pyproject.toml

pace: .venv/dev.stamp ## campaign: arrivals at the sandbox, never above 20 in a second
	$(BIN)/python -m tests.benchmarks.pace
	$(BIN)/python -m tests.benchmarks.reserve

# How much of a campaign: make crash POINTS=50 SEED=1
CHOSEN = $(if $(POINTS),--points $(POINTS)) $(if $(SEED),--seed $(SEED))

simulate: .venv/dev.stamp ## campaign: whole runs with drawn faults on a virtual clock (RUNS, SEED, VERBOSE)
	$(BIN)/python -m tests.simulation.campaign $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) $(if $(VERBOSE),--verbose)

crash: .venv/dev.stamp ## campaign: die at every write, resume, judge (POINTS, SEED)
	$(BIN)/python -m tests.campaigns.crash $(CHOSEN)

disk: .venv/dev.stamp ## campaign: full and failing disks under ledger, report and stdout (POINTS, SEED)
	$(BIN)/python -m tests.campaigns.disk $(CHOSEN)

planning: .venv/dev.stamp ## campaign: SIGKILL while planning, then start again (POINTS, SEED)
	$(BIN)/python -m tests.campaigns.planning $(CHOSEN)

signals: .venv/dev.stamp ## campaign: SIGTERM at random times (POINTS, SEED)
	$(BIN)/python -m tests.campaigns.signals $(CHOSEN)

readers: .venv/dev.stamp ## campaign: the readers against a plain second one, over generated files (FILES, SEED, SIZE)
	$(BIN)/python -m tests.campaigns.readers $(if $(FILES),--files $(FILES)) $(if $(SEED),--seed $(SEED)) $(if $(SIZE),--size $(SIZE))

planted: .venv/dev.stamp ## campaign: bugs put in on purpose, each caught by its tests (BUG)
	$(BIN)/python -m tests.planted.campaign $(BUG)

mutation: .venv/dev.stamp ## campaign: mutants of what decides, nine in ten noticed (MODULE)
	$(BIN)/python -m tests.mutation.campaign $(MODULE)

# Some of the benchmarks, or each once: make bench ONLY='plan start' ROUNDS=1
BENCH = $(BIN)/python -m tests.benchmarks.campaign $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

# Or everything in a few minutes, to see that it runs: make bench SCALE=quick
SCALE ?= small

bench: .venv/dev.stamp ## measure: ratios to baselines of the same run, 10 minutes (ONLY, ROUNDS, SCALE)
	$(BENCH) --scale $(SCALE) --json build/bench/$(SCALE).json

bench-large: .venv/dev.stamp ## measure: the same with 100 million rows, 40 minutes and 40 GB of disk (ONLY, ROUNDS)
	$(BENCH) --scale large --json build/bench/large.json

bench-readme: .venv/dev.stamp ## write what was measured last into README.md
	$(BIN)/python -m tests.benchmarks.published README.md $(or $(RESULTS),$(wildcard build/bench/small.json build/bench/large.json))

clean: ## remove what is not in the repository: environment, caches, rehearsals
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist
	find worker tests -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3 ..." >&2; exit 2; }
	@$(PYTHON) -m venv --clear .venv || { echo "make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }

.venv/runtime.stamp: deploy/runtime.lock deploy/build.lock $(EDITION) | .venv/bin/python
	@echo "installing the pinned dependencies into .venv (once)"
	@$(LOCKED) -r deploy/build.lock -r deploy/runtime.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: deploy/dev.lock .venv/runtime.stamp
	@echo "installing the pinned development tools into .venv (once)"
	@$(LOCKED) -r deploy/dev.lock
	@$(BIN)/python -m pip --disable-pip-version-check check
	@touch $@
