# relay: `make run` tries it, `make test` proves it. Needs python3 (3.11 or newer) with venv, and make; nothing else.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help run test check bench faults clean

help:
	@echo "make run    start relay on 127.0.0.1:1025; what it accepts is captured, nothing leaves this host"
	@echo "make test   the whole test suite"
	@echo "make check  ruff, mypy --strict and the import rules"
	@echo "make bench  the speed figures, beside Postfix where it is installed"
	@echo "make faults rounds of kill -9 under load, and a provider in every trouble: what was lost, what came twice"
	@echo "make clean  remove what make made"

run: $(INSTALLED)
	@exec $(BIN)/relay serve --dev

test: $(INSTALLED)
	@$(BIN)/python -m pytest

check: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_layers.py

bench: $(INSTALLED)
	@$(BIN)/python -m bench

faults: $(INSTALLED)
	@$(BIN)/python -m tests.faults.kill_loop --rounds 200
	@$(BIN)/python -m tests.faults.kill_loop --rounds 60 --provider mailtrap
	@$(BIN)/python -m tests.faults.failover --hurry --kills 1

clean:
	rm -rf .venv .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find relay tests bench -name __pycache__ -prune -exec rm -rf {} +

# Made anew only when pyproject.toml changed. A .venv whose Python is gone (after a system upgrade) is replaced.
$(INSTALLED): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "relay needs Python 3.11 or newer; there is no $(PYTHON) here: apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "relay needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). With another one: make $(or $(MAKECMDGOALS),run) PYTHON=python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || { echo "cannot make .venv: apt install python3-venv" >&2; exit 1; }
	@echo "installing into .venv (once, until pyproject.toml changes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
