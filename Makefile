# Needs python 3.11 or newer, make and git; neither root, nor Docker, nor a service. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

POOLED := tests/integration/storage tests/integration/sinks/test_timescale.py tests/integration/sinks/test_refused_rows.py \
	tests/integration/sources tests/integration/repository \
	tests/integration/property/test_exactly_once.py tests/acceptance tests/fault/test_two_hosts.py
# A version of its own, outside the lock: only `make fuzz` needs it, and it has wheels for few versions of Python.
ATHERIS := 3.0.0

# The tests start hundreds of processes and read their own files once a worker: compile them once.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: setup demo check unit test campaigns compiled lint types fault kills soak fuzz pgbouncer bench instructions lock clean help

setup: $(STAMP) ## Make .venv from the lock file; quick when nothing changed

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "ingestd needs Python 3.11 or newer, and none is on the PATH." \
		"Install it, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old: ingestd needs Python 3.11 or newer." >&2; exit 1; }
	@test ! -L $(VENV) || { echo "$(VENV) is a link, and what it leads to would be emptied: remove the link." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module (on Debian: python3-venv)." >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing into $(VENV): a minute, or some on a slow machine."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Run the whole daemon here against a simulated exchange: make demo ARGS="--seconds 30"
	$(BIN)/ingestd demo $(ARGS)

check: setup ## What to run while you edit, a minute: lint, types, unit and property tests
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint types unit

unit: setup
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/unit tests/property $(ARGS)

test: setup ## Lint, check types, run every test: make test ARGS="tests/unit -x"
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types compiled
	$(BIN)/python -m pytest -q -n 5 --dist worksteal $(ARGS)

campaigns: setup ## The tests that are too long for make test, which has a short form of each
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m campaign $(ARGS)

# While the types are checked, on the other core: else each worker compiles every test for itself.
compiled: setup
	@$(BIN)/python -m pytest -q --collect-only >/dev/null 2>&1 || true  # the tests themselves say what is wrong

lint: setup ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

fault: setup ## Every fault and property at length and 200 kills; writes docs/durability.md's table
	INGESTD_TEST_AT_LENGTH=1 INGESTD_FAULT_KILLS=200 INGESTD_FAULT_HITS=10 INGESTD_FAULT_OUTAGE_S=60 INGESTD_FAULT_SECONDS=120 \
		$(BIN)/python -m tests.fault $(ARGS)

kills: setup ## 200 kills of process, backend and server under load, judged against the venue's ledger
	INGESTD_FAULT_KILLS=200 $(BIN)/python -m pytest -q -s -m '' tests/fault/test_kills.py -k again_and_again $(ARGS)

soak: setup ## Hours of faults in one life, and of kills: make soak HOURS=6
	INGESTD_SOAK_HOURS=$(or $(HOURS),1) $(BIN)/python -m pytest -q -s -m '' tests/fault/test_soak.py $(ARGS)

fuzz: setup ## Fuzz by coverage: make fuzz TARGET=journal_file SECONDS=3600 (no TARGET: a minute of each)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris==$(ATHERIS)
	@for target in $(or $(TARGET),ccxt_update id_series market_list books_after_cut batch kafka_message kafka_position \
			kafka_places compressed_batch fragments rest_reply http_headers market_answer trading_event configuration dsn journal_file \
			native_binance native_bybit native_okx); do \
		$(BIN)/python -m tests.fuzz.run_atheris $$target -max_total_time=$(or $(SECONDS),60) $(ARGS) || exit 1; done

pgbouncer: setup ## Run the tests that use a database through PgBouncer in transaction mode (Debian: pgbouncer)
	@command -v pgbouncer >/dev/null || test -x /usr/sbin/pgbouncer || { \
		echo "NOT RUN: there is no PgBouncer here. Install it (on Debian: apt-get install pgbouncer)." >&2; exit 1; }
	INGESTD_TEST_PGBOUNCER=1 $(BIN)/python -m pytest -q -m '' $(POOLED) $(ARGS)

bench: setup ## Measure this machine
	$(BIN)/ingestd bench $(if $(wildcard ../shared/data/captures),--captures ../shared/data/captures) $(ARGS)

instructions: setup ## Count anew the instructions that the regression guard compares with (needs valgrind)
	$(BIN)/python -m tests.performance.instructions

lock: ## Resolve the dependencies anew (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	$(LOCK) --upgrade --extra embedded --extra plot --extra sqlalchemy --extra arrow --extra indicators --extra connections --group dev -o requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock -o requirements-runtime.lock pyproject.toml
	echo hatchling | $(LOCK) --constraint requirements.lock -o requirements-build.lock -

clean: ## Remove what make made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
