PYTHON ?= python3
BIN := .venv/bin
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help install demo test test-slow lint types floors check

help:
	@echo "make demo       install, train on waves and on spoken vowels, draw plots (demo_output/)"
	@echo "make test       install, run the whole test suite"
	@echo "make test-slow  the tests that take minutes"
	@echo "make check      test, lint, types, import floors"

# torch first: the constraint names the tested build, and extras may then use what is there.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

install: .venv/installed

demo: install
	$(BIN)/python examples/demo.py

test: install
	$(THREADS) $(BIN)/python -m pytest -m "not slow" --numprocesses 2

test-slow: install
	$(THREADS) $(BIN)/python -m pytest -m slow --numprocesses 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

floors: install
	$(BIN)/lint-imports

check: test lint types floors
