# Two commands on a fresh machine: `make demo` (install, and the whole job) and `make test`. .ci/run calls the same ones.
#
#   PYTHON       makes .venv; 3.11 or newer
#   TORCH        the torch to install, when .venv has none yet
#   TORCH_INDEX  where torch comes from, if not from pip's usual index (say, an index of CPU builds)

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: demo test test-more lint clean

demo: .venv/installed
	rm -rf runs/demo
	$(BIN)/nerf-app reconstruct data/object --minutes 3 --out runs/demo

test: .venv/installed-dev
	$(BIN)/python -m pytest -q -m "not slow"

test-more: .venv/installed-dev
	$(BIN)/python -m pytest -q -m slow || [ $$? -eq 5 ]  # 5: no slow tests yet

lint: .venv/installed-dev
	$(BIN)/ruff check .

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis runs/demo

# Torch goes first and alone, so that its index is not asked for anything else and nothing else chooses its build.
KERNELS := $(wildcard nerf_app/ops/*/*.cpp nerf_app/ops/*/*.hpp) nerf_app/ops/build.py

.venv/installed: setup.py pyproject.toml $(KERNELS) | $(BIN)/pip
	@echo "installing into .venv; the first time this takes a few minutes"
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP_INSTALL) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
		echo "nerf_app needs Python 3.11 or newer, and $(PYTHON) is not:" \
			"name another one, as in make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install the package that brings venv" \
			"(Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv .venv
