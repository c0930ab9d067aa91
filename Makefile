# Everything from a fresh clone with nothing but Python 3.11+ and make. The first target that needs it builds .venv;
# a change of pyproject.toml or constraints.txt brings it up to date.

BIN := .venv/bin
READY := .venv/.ready
RECENT := 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c $(RECENT) 2>/dev/null && command -v $$python && break; done)
# uv does not read pip's own settings, so that a local folder of wheels or a mirror has to be handed on.
SOURCES := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)") $(if $(PIP_INDEX_URL),--default-index "$(PIP_INDEX_URL)")
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help env train test lint format types ci benchmark constraints clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

env: $(READY)  ## build .venv

train: $(READY)  ## train the quick start; settings as in ARGS="experiment=scmos budget.minutes=20"
	$(BIN)/python train.py $(ARGS)

test: $(READY)  ## run the tests, a file to a core; pytest's own options as in ARGS="-k psf -n 0"
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(READY)  ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY)  ## put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY)  ## check types
	$(BIN)/mypy

ci:  ## everything that must hold before a merge
	.ci/run

benchmark: $(READY)  ## measure one of benchmarks/: ARGS="benchmarks/NAME.py"
	$(BIN)/python $(or $(ARGS),$(error give a benchmark as in: make benchmark ARGS="benchmarks/NAME.py"))

constraints: $(READY)  ## resolve constraints.txt anew from pyproject's ranges, then: make test
	@$(BIN)/uv pip compile -q --upgrade --python $(BIN)/python --extra dev --no-annotate --no-header $(SOURCES) \
		pyproject.toml -o .venv/constraints.txt
	@{ sed -n '/^#/p' constraints.txt; sed 's/+[a-z0-9.]*$$//' .venv/constraints.txt; } > .venv/constraints.new
	mv .venv/constraints.new constraints.txt

clean:  ## remove .venv and caches; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is removed first and made last: after a failure half-way the next make begins again.
$(READY): pyproject.toml constraints.txt
	@rm -f $@
	@test -n "$(PYTHON)" && "$(PYTHON)" -c $(RECENT) 2>/dev/null || \
		{ echo "make: no Python 3.11 or newer found: install one, or name it with PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no ensurepip: install its venv package, e.g. apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	@echo "Setting up .venv (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python $(SOURCES) \
		--compile-bytecode -c constraints.txt --build-constraints constraints.txt -e '.[dev]'
	@touch $@
