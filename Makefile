# Every target makes .venv and installs what it needs. PYTHON=… names the interpreter, PORT=… the dashboard's port.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
JOBS ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses=4 --dist loadfile

.PHONY: help dashboard test test-all lint bench clean
.DELETE_ON_ERROR:

help:
	@echo "make dashboard   open the dashboard on the embedded model and corpus (PORT=8600 to choose the port)"
	@echo "make test        run the tests"
	@echo "make test-all    run the tests, the slow ones too"
	@echo "make lint        check style, types and the direction of imports"
	@echo "make bench       measure speed and memory against transformers"
	@echo "make clean       remove .venv and caches"

dashboard: $(VENV)/.installed
	@$(BIN)/mixtral-probe dashboard $(if $(PORT),--port $(PORT))

test: $(VENV)/.installed-dev
	$(PYTEST)

test-all: $(VENV)/.installed-dev
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/prefill.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/opening.py
	$(BIN)/python benchmarks/routing_statistics.py
	$(BIN)/python benchmarks/pages.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "mixtral-probe needs Python 3.11 or later, but $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing);" \
	       "name another one: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that pip takes the small CPU build where one is at hand.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time this takes some minutes"
	@$(PIP) torch
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.torch
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed
