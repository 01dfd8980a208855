# The two commands to know are `make run` and `make test`; both set up what is missing first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Hundreds of starts: compile what is ours once, even where containers are told to keep no bytecode.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
EXAMPLE ?= 1
WORKERS ?= 4
ARGS ?=
# Real processes on a busy machine may be late: a test of them that failed is tried once more, and named (R) if it passes
# then. What is wrong fails twice. tests/conftest.py says which may be late; any other is red at once.
RETRY := --reruns 1 -r fEsR

BIN := .venv/bin
STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable
SOURCES := controlplane endpoints messaging testing examples deploy tests benchmarks manage.py
TYPED := controlplane endpoints messaging testing

.PHONY: help setup setup-dev run test test-sqlite test-postgresql test-long check fix bench fuzz services services-stop docs constraints clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: $(STAMP)

setup-dev: $(DEV_STAMP)

# The stamp is newer than what it was made from, or everything is installed again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo 'Setting up .venv, once; it takes a minute or two' >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) '.[all]'
	@touch $@

$(DEV_STAMP): $(STAMP)
	@echo 'Adding to .venv what tests and checks need, once' >&2
	@$(PIP_INSTALL) '.[all,dev]'
	@touch $@

run: setup ## Start everything at http://HOST:PORT (HOST PORT DATABASE_URL EXAMPLE=0)
	@exec $(BIN)/controlplane up --host $(HOST) --port $(PORT) $(if $(filter 1,$(EXAMPLE)),--example)

services: setup-dev ## Start the real servers that tests use (PostgreSQL, Redis, RabbitMQ)
	@$(BIN)/python deploy/services.py start || test -z "$${CI:-}"

services-stop: ## Stop them
	@$(PYTHON) deploy/services.py stop

test: setup-dev services test-sqlite test-postgresql ## Run the test suite on both databases

# Everything, on SQLite; tests of real processes choose their databases themselves.
test-sqlite:
	@env -u DATABASE_URL $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not long" $(RETRY) $(ARGS)

# The same tests of what touches a database, on PostgreSQL.
test-postgresql:
	@url=$$($(BIN)/python deploy/services.py url) || { echo "skipped on PostgreSQL: no server"; test -z "$${CI:-}"; exit; }; \
	DATABASE_URL=$$url $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "database and not stack and not long" $(RETRY) $(ARGS)

test-long: setup-dev services ## Run the tests that take minutes to hours, and print their figures (LONG_KILLS LONG_MESSAGES LONG_RUNS)
	@$(BIN)/python -m pytest -m long --timeout 0 -s $(ARGS)

fuzz: setup-dev ## Feed the parsers with many new inputs (FUZZ_EXAMPLES each)
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest -m "not stack" --timeout 0 tests/fuzz $(ARGS)

check: setup-dev ## Format, lint, types, migrations, architecture
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/controlplane makemigrations --check --dry-run
	@$(BIN)/python -m pytest -q tests/architecture

fix: setup-dev ## Format, and mend what the linter can mend
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

bench: setup-dev services ## Print the speeds, each beside its limit
	@$(BIN)/python -m benchmarks $(ARGS)

docs: setup-dev ## Write the OpenAPI document and the settings table into docs/
	@$(BIN)/controlplane spectacular --file docs/openapi.yaml
	@$(BIN)/controlplane doctor --settings-table > docs/settings.md

constraints: ## Pin the exact set that a clean environment gets (names and versions only)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install -qq --disable-pip-version-check '.[all,dev]'; \
	"$$folder/bin/python" -m pip list --format=freeze --exclude integration-control-plane --exclude pip --exclude setuptools > constraints.txt

clean: ## Remove what was made, but for var/
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info build dist
