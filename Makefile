# Everything from a fresh clone: each target first makes the environment that it needs, in .venv.
PYTHON ?= python3
# On which `make pythons` runs the tests: all that pyproject.toml names.
PYTHONS ?= python3.11 python3.13
BIN := .venv/bin
# What needs no framework.
QUICK := tests/*.py tests/unit/*.py $(addprefix tests/unit/,datasets diagnosis evaluation images planning report serving studies)

.PHONY: train test docs site quick check backends lowest pythons bench release clean

train: .venv/.train ## Train the tutorial's CNN on CIFAR-10, with the tutorial's settings
	$(BIN)/convscope train

test: .venv/.dev ## Run the tests, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

docs: site ## Build the site of the documentation, open it, run the commands of its pages, two at a time
	CONVSCOPE_SITE=site $(BIN)/python -m pytest -n 2 --dist load -m docs tests/docs

site: .venv/.dev ## Build the site of the documentation into site/; in a terminal, open it
	$(BIN)/python docs/site/build.py

quick: .venv/.dev ## Lint, and the tests that need no framework: for every edit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not (slow or network or weights or gpu or docs or engine)" $(QUICK)

check: .venv/.dev ## Format, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

backends: .venv/.backends lowest ## Run the tests on JAX, on torch, and with the lowest versions (an hour and more)
	KERAS_BACKEND=jax $(BIN)/python -m pytest
	KERAS_BACKEND=torch $(BIN)/python -m pytest

# What such versions warn of in newer ones of what they use is not our fault, so no error here.
lowest: .venv/.lowest ## Run the tests on Python 3.11 with the lowest versions that pyproject.toml allows
	PYTEST_ADDOPTS="-o filterwarnings=default $$PYTEST_ADDOPTS" \
	  .venv/lowest/bin/python -m pytest -n 2 --dist loadfile

pythons: ## Run the tests on each of PYTHONS, in an environment of its own (an hour)
	set -e; for python in $(PYTHONS); do \
	  $$python -m venv .venv/$$python; \
	  .venv/$$python/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	  .venv/$$python/bin/python -m pytest -n 2 --dist loadfile; \
	done

bench: .venv/.backends ## Measure speed and accuracy beside the tutorial's code and PyTorch (hours)
	mkdir -p runs/benchmarks
	$(BIN)/python benchmarks/overhead.py --out runs/benchmarks/overhead.json
	$(BIN)/python benchmarks/inference.py --out runs/benchmarks/inference.json
	$(BIN)/python benchmarks/equal_time.py --out runs/benchmarks/equal_time.json
	$(BIN)/python benchmarks/accuracy_over_time.py --out runs/benchmarks/accuracy-over-time
	$(BIN)/python benchmarks/gpu.py --out runs/benchmarks/gpu.json

release: .venv/.dev ## Build wheel and source archive, install each afresh, run the first example
	PYTHON=$(PYTHON) .ci/release

clean: ## Remove the environment (runs and downloads stay)
	rm -rf .venv

# The stamps say what .venv holds; a change of the pins or of the project installs anew.
.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'convscope needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv

.venv/.train: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	touch $@

# The tests use a part of what it installs, which Python compiles at its first import.
.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	touch $@

.venv/.backends: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,jax,torch]'
	touch $@

.venv/.lowest: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv venv --quiet --clear --seed --python 3.11 .venv/lowest
	$(BIN)/uv pip install --quiet --python .venv/lowest/bin/python --resolution lowest-direct -e '.[dev]'
	touch $@
