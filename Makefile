# `make` lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
DEMO_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.repromark-installed
SUPPORTED := 3.11 3.12 3.13

version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
can_make_venv = $(shell $(PYTHON) -c 'import ensurepip, venv; print("yes")' 2>/dev/null)

# Each of these stops with one line when something is missing, and is empty otherwise.
need_python = $(if $(call version,$(PYTHON)),,$(error \
  repromark needs Python 3.11 to 3.13 and `$(PYTHON)` does not run: install it, or name one as in `make PYTHON=python3.12`))
need_version = $(if $(filter $(SUPPORTED),$(call version,$(1))),,$(error \
  repromark needs Python 3.11 to 3.13 and `$(1)` is $(call version,$(1)): $(2)))
need_venv = $(if $(can_make_venv),,$(error \
  `$(PYTHON)` cannot make virtual environments (no ensurepip): on Debian and Ubuntu, `apt install python3-venv`))
need_new = $(need_python)$(call need_version,$(PYTHON),name another as in `make PYTHON=python3.12`)$(need_venv)
need_old = $(call need_version,$(BIN)/python,remove $(VENV) and call make again)

.PHONY: help install demo test lint clean

help:
	@echo 'make demo     install and run the main job, `repromark demo`'
	@echo 'make test     install and run every check: lint, then the tests'
	@echo 'make lint     ruff, mypy and the import rules alone'
	@echo 'make install  only make .venv and install into it, for development'
	@echo 'make clean    remove .venv, caches and build folders; runs/ stays'
	@echo 'Variables: PYTHON=python3.12 (to make .venv with), PIP_ARGS=... (for pip install), PYTEST_ARGS=... DEMO_ARGS=...'

install: $(STAMP)

# A .venv whose Python does not run was left by an interrupted run, or by a Python that is gone: it is made anew.
# One made by hand is kept, and gets pip if it has none.
$(STAMP): pyproject.toml constraints.txt
	$(if $(call version,$(BIN)/python),$(need_old),$(need_new))
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[demo,test]'
	$(BIN)/repromark doctor --fix
	@touch $@

demo: install
	$(BIN)/repromark demo $(DEMO_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each of the tests' processes has one thread of arithmetic: more of them on the same cores slow each other down.
test: lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
