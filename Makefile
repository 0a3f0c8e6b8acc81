# Everything that is done with this source tree. `make setup` installs into .venv and .cache and changes nothing else.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test-fast test test-long test-stack test-servers secrets faults fuzz bench soak check format docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: .venv/ready .cache/ready ## create .venv and fetch what the embedded servers need; instant when nothing changed

.venv/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make setup PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing requirements/dev.txt, every file checked by its hash …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.cache/ready: .venv/ready services/standalone/servers/kafka-4.4.0.lock
	@$(BIN)/python -m services.standalone.servers.jars
	@mkdir -p .cache && touch $@

demo: setup ## run the whole pipeline on embedded servers with invented sellers, print their rates and the reasons; OPEN=1: then open the portal
	@$(BIN)/replyrate demo $(if $(OPEN),--open)

# Tests mostly wait, so three processes share the files; each has its own servers, folders and ports. Files run in the
# order of their names, which does not leave the longest ones for the end.
PYTEST := $(BIN)/pytest -q -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder

test-fast: setup ## run unit tests, properties and contracts: under a minute
	@$(PYTEST) tests/unit tests/properties tests/contract

test: setup .cache/dbt/ready ## run every test that needs no Docker; processes: WORKERS=3
	@$(PYTEST)

test-long: setup .cache/dbt/ready ## the same, with the full number of examples for the properties
	@HYPOTHESIS_PROFILE=long $(PYTEST) --timeout 3600

# The suites that use Kafka, Postgres and Dovecot most; the others use the same clients. One stack has nine containers, so
# its tests run in a single process.
ON_CONTAINERS := matcher aggregator fetcher pipeline dlq restore

test-servers: setup ## the fetcher against real IMAP servers of other projects (.ci/install-mail-servers installs them)
	@$(BIN)/pytest -q tests/mail_servers

test-stack: setup ## test the containers of docker-compose.yml end to end; needs Docker (on Debian: .ci/docker up, .ci/base-images)
	@$(BIN)/pytest -q tests/stack
	@SERVERS=containers $(PYTEST) $(ON_CONTAINERS:%=tests/integration/test_%.py)

secrets: ## create the keys and passwords that docker-compose.yml needs; existing ones stay
	@deploy/secrets

faults: setup ## inject faults and compare every number: SEED=1 ROUNDS=1 FAULTS=60; CONTROL=1 must find a loss; STACK=1 on containers
	@$(BIN)/python -m tests.faults.run --seed $(or $(SEED),1) --rounds $(or $(ROUNDS),1) --faults $(or $(FAULTS),60) $(if $(CONTROL),--control) $(if $(STACK),--stack)

fuzz: setup ## turn mutated headers into events: SECONDS=300 SEED=1
	@$(BIN)/python -m tests.fuzz.headers --seconds $(or $(SECONDS),300) --seed $(or $(SEED),1)

.cache/bench/ready: requirements/bench.txt
	@test -x .cache/bench/bin/python || $(PYTHON) -m venv .cache/bench
	@echo "installing what the benchmark compares with, every file checked by its hash …"
	@.cache/bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

# dbt needs other versions than the services; it is used by examples/dbt and its test only.
.cache/dbt/ready: requirements/dbt.txt
	@test -x .cache/dbt/bin/python || $(PYTHON) -m venv .cache/dbt
	@echo "installing dbt, every file checked by its hash …"
	@.cache/dbt/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dbt.txt
	@touch $@

bench: setup .cache/bench/ready ## measure throughput and freshness beside the usual alternatives, as ratios; needs Dovecot
	@$(BIN)/python -m bench $(PARTS) $(if $(MAILBOXES),--mailboxes $(MAILBOXES)) $(if $(REPEATS),--repeats $(REPEATS))

soak: setup ## look for growth: MINUTES=15 with all services, MESSAGES=5000000 stored in RocksDB; needs Dovecot
	@$(BIN)/python -m bench.soak $(PARTS) --minutes $(or $(MINUTES),15) --messages $(or $(MESSAGES),5000000)

check: setup ## check format, lint, types and import contracts
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## format the code and fix what the linter can fix
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

docs: setup ## render the pages that come from the code
	@$(BIN)/replyrate config docs --write docs

clean: ## remove everything that setup and tests created
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
