# `make train` and `make test` need only Python 3.11 or newer. The first one that runs sets up .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test slow torture soak check audit bench scaling settings constraints

train: .venv/ready
	$(BIN)/python src/train.py $(ARGS)

test: .venv/ready check
	$(BIN)/python -m pytest -n auto --dist loadfile

slow: .venv/ready
	$(BIN)/python -m pytest -m slow

torture: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m torture $(ARGS)

soak: .venv/ready
	$(BIN)/python tests/soak.py

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Asks a service which installed packages have known vulnerabilities. It also fails if the service cannot check a package.
# pip itself is left out, because it came with Python. Local build labels are cut off versions: 2.13.0+cpu becomes 2.13.0.
audit: .venv/ready
	$(BIN)/python -m pip list --format freeze --exclude-editable --exclude pip > .venv/installed
	sed 's/+.*//' .venv/installed > .venv/published
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement .venv/published $(ARGS) || \
		{ echo "audit failed: a vulnerability is known, or the service could not check every package"; exit 1; }

# The versions of all packages with which the tests passed here. Local build labels such as +cpu are cut off.
constraints: .venv/ready
	$(BIN)/python -m pip list --format freeze --exclude-editable --exclude pip --exclude setuptools --exclude wheel > .venv/installed
	sed 's/+.*//' .venv/installed > constraints.txt

settings: .venv/ready
	$(BIN)/python docs/write_settings.py

# QUICK=1 takes minutes instead of more than an hour. THROUGHLINE_DATA is the folder that contains tinyshakespeare/input.txt.
bench: .venv/ready benchmarks/.venv/ready
	$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick)

scaling: .venv/ready
	$(BIN)/python -m benchmarks.scaling $(if $(QUICK),--quick)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

benchmarks/.venv/ready: benchmarks/requirements.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	touch $@
