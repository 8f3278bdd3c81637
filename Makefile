# What a person does here.  `make help` lists it.

PYTHON ?= python3
VENV := .venv
MINUTES ?= 10
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores : 4)))
DRILLS ?= $(wildcard drills/*.py)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: run install test servers check bench instructions profile drills soak image screenshots clean help lock

run: install  ## Try it: the demo, a sample app behind the gate
	@$(BIN)/gatekeeper demo

install: $(VENV)/.runtime  ## Set up .venv with .venv/bin/gatekeeper in it

test: $(VENV)/.dev tests/real/node_modules/.ready servers  ## Set up what tests need, then run them all, in JOBS processes; PYTEST_ARGS chooses some
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev  ## Format, lint, types, and the core's coverage
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pyright
	@$(BIN)/python scripts/core_coverage.py

bench: $(VENV)/.runtime  ## Measure beside nginx, HAProxy, Envoy, Traefik, Caddy and Go; BENCH_ARGS=--quick for 2 minutes
	@$(BIN)/python -m bench $(BENCH_ARGS)

instructions: $(VENV)/.runtime  ## Count what a request takes; fails where it is 5% more than stored.  BENCH_ARGS=--record stores
	@$(BIN)/python -m bench.instructions $(or $(BENCH_ARGS),--check)

profile: $(VENV)/.runtime  ## Where the time of a request goes, by library, system call and function
	@$(BIN)/python -m bench.profile $(BENCH_ARGS)

drills: $(VENV)/.dev tests/real/node_modules/.ready servers  ## What needs real time: bodies, attacks, slow clients, drain, keys, outages, revocation, signing out others, workers, soak
	@set -e; for drill in $(DRILLS); do echo "== $$drill"; $(BIN)/python $$drill; done

soak: $(VENV)/.dev  ## Ten minutes at half of what the gate can do: errors, memory, descriptors
	@$(BIN)/python drills/soak.py --minutes $(MINUTES)

image:  ## Build the container image and try it
	@bash scripts/image_test.sh

screenshots: $(VENV)/.dev  ## Take the pictures of README and docs anew, with Chromium
	@$(BIN)/python -m scripts.docs_images

clean:  ## Remove what was installed and built
	rm -rf $(VENV) .venv-bench bench/results tests/real/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

lock: $(VENV)/.dev  ## Resolve the dependencies anew and write the locks
	@bash scripts/lock.sh $(BIN)/python

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@bash scripts/make_venv.sh "$(PYTHON)" "$(VENV)"

$(VENV)/.runtime: $(VENV)/bin/python locks/build.txt locks/runtime.txt pyproject.toml
	@echo "Installing the dependencies …"
	@$(PIP) --require-hashes -r locks/build.txt
	@$(PIP) --require-hashes -r locks/runtime.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime locks/dev.txt
	@echo "Installing what development needs …"
	@$(PIP) --require-hashes -r locks/dev.txt
	@touch $@

servers:
	@bash scripts/servers.sh

tests/real/node_modules/.ready: tests/real/package.json tests/real/package-lock.json
	@bash scripts/node_modules.sh tests/real
