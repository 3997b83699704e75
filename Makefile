# make demo, make test, make lint, make check. All of them set up .venv first, and only when something changed.

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough and can make virtual environments; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)

export PYTHONUTF8 := 1

.PHONY: demo test lint check clean

demo: $(VENV)/.server
	$(BIN)/memory3 demo

# One thread a process: OpenMP threads that wait for each other collapse beside any other busy process.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python protos/generate.py --check
	PATH="$(CURDIR)/$(BIN):$$PATH" .ci/types
	$(BIN)/lint-imports --no-cache

check: lint test

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Memory3 needs Python 3.11, 3.12 or 3.13 with its venv module;" \
		"found: $$(python3 --version 2>&1). Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first, by its exact version: whatever else asks for torch finds it there.
$(VENV)/.server: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(TORCH)
	$(INSTALL) -e '.[server]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(TORCH)
	$(INSTALL) -e '.[dev]'
	touch $(VENV)/.server $@
