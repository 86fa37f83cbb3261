# Everything runs in a virtual environment of its own; python3.11 or newer and make are all that is needed.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# small problems are slower on many threads than on one
export OMP_NUM_THREADS ?= 1
# modules are compiled once, not by each of the many processes that tests start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart install test lint bench docs linkcheck audit clean

quickstart: install
	rm -rf runs/quickstart
	$(BIN)/qgen run quickstart-calorimeter --out runs/quickstart/calorimeter --no-report
	$(BIN)/qgen run quickstart-muon --out runs/quickstart/muon --no-report
	$(BIN)/qgen report runs/quickstart/calorimeter runs/quickstart/muon --out runs/quickstart/report.html

install: $(VENV)/installed

# three processes for two cores: some tests wait for processes of their own
test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n 3

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-test
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . docs/_build

# these two ask the network: whether links outside lead somewhere, and whether a dependency has a known vulnerability
linkcheck: $(VENV)/installed-test
	$(BIN)/python -m sphinx -b linkcheck -q -c docs . docs/_build/linkcheck

audit: $(VENV)/installed-test
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip --strict

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "python3.11 or newer is needed"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first: the other packages then find it installed and do not bring another build
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

# runningman (of mthree) builds with pkg_resources, which newer setuptools no longer bring
$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation runningman
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
