# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Side by side, as many as there are processors.
TOGETHER := -n auto --dist worksteal
# In the full run, where many tests wait, one more; each takes the next, and those that take long come first.
IN_TURN  := --dist load --maxschedchunk 1 -n
MORE     := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
QUICK    := -m 'not kafka and not chaos and not slow'
SOURCES := reflow_kafka connectors examples tests benchmarks

# Hundreds of processes start: what was compiled once is kept for all of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick simulate chaos fuzz audit lint format types bench bench-quick bench-growth bench-load \
	bench-flight bench-failover bench-limits bench-closing clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv with everything that development needs

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Run the weather example on the embedded log over real data
	@$(BIN)/python examples/weather.py

test: $(STAMP)  ## Run all tests, those on real Kafka included
	@status=0; \
	$(BIN)/python -m pytest $(IN_TURN) $(MORE) -m 'not kafka' || status=1; \
	$(BIN)/python -m pytest $(IN_TURN) 3 -m 'kafka and not alone' || status=1; \
	$(BIN)/python -m pytest $(IN_TURN) 3 -m 'kafka and alone and not chaos' || status=1; \
	$(BIN)/python -m pytest -m 'kafka and alone and chaos' || status=1; \
	exit $$status

quick: $(STAMP)  ## Run the tests that need no Kafka and little time
	$(BIN)/python -m pytest $(TOGETHER) $(QUICK)

simulate: $(STAMP)  ## Simulate SEEDS histories full of trouble (20000); a failure names the seed that replays it
	REFLOW_SIM_SEEDS=$(or $(SEEDS),20000) $(BIN)/python -m pytest $(TOGETHER) tests/simulation

chaos: $(STAMP)  ## Disturb flows on three real brokers for MINUTES (10), each run with a new seed
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10)

fuzz: $(STAMP)  ## Feed bad input of every kind to everything for MINUTES (10), other input each time
	$(BIN)/python -m tests.fuzz $(or $(MINUTES),10)

audit: $(STAMP)  ## Look the installed packages up in the database of known vulnerabilities
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --skip-editable --progress-spinner off --timeout 10

lint: $(STAMP)  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## Put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## Check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(STAMP)  ## Measure speed on real Kafka, this library and others; takes long
	$(BIN)/python -m benchmarks

bench-quick: $(STAMP)  ## The same for this library alone, in a few minutes
	$(BIN)/python -m benchmarks --quick

bench-growth: $(STAMP)  ## How cost grows with lanes, size, keys, hops, flows and backlog; a quarter of an hour
	$(BIN)/python -m benchmarks.growth --plots docs/images

bench-load: $(STAMP)  ## Latency and commits against load, and through a burst; four minutes
	$(BIN)/python -m benchmarks.load --plots docs/images

bench-flight: $(STAMP)  ## Measure handlers that wait, fail, block or compute, many events at once; ten minutes
	$(BIN)/python -m benchmarks.flight

bench-failover: $(STAMP)  ## Kill the owner of a lane with a million keys, with a standby and without; ten minutes
	$(BIN)/python -m benchmarks.failover

bench-limits: $(STAMP)  ## Start with 64 and 1,000 lanes, 200 stages, 10 MB events, 10,000,000 keys; half an hour
	$(BIN)/python -m benchmarks.limits

bench-closing: $(STAMP)  ## Close a million windows at once; five minutes
	$(BIN)/python -m benchmarks.closing

clean:  ## Remove what was built or left by runs, .venv included
	rm -rf $(VENV) build dist .reflow .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
