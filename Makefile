# `make train` and `make test` need nothing but Python 3.11 or newer; the first of them sets up .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test slow torture soak check

train: .venv/ready
	$(BIN)/python src/train.py $(ARGS)

test: .venv/ready check
	$(BIN)/python -m pytest

slow: .venv/ready
	$(BIN)/python -m pytest -m slow

torture: .venv/ready
	$(BIN)/python tests/torture.py

soak: .venv/ready
	$(BIN)/python tests/soak.py

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
