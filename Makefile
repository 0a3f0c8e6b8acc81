# What a person or a machine does with this tree. Everything is installed into .venv and .cache; nothing else changes.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-stack secrets faults fuzz bench soak check format docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: .venv/ready .cache/ready ## make .venv and fetch what the embedded servers need; instant when nothing changed

.venv/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make setup PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what requirements/dev.txt names, each file checked by its hash …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.cache/ready: .venv/ready services/standalone/servers/kafka-4.4.0.lock
	@$(BIN)/python -m services.standalone.servers.jars
	@mkdir -p .cache && touch $@

demo: setup ## the whole pipeline on embedded servers with a seeded world: rates and why
	@$(BIN)/replyrate demo

# Much of the time is waiting, so two processes share the files; each has servers, folders and ports of its own. In the
# order of the files: the longest ones are not left for the end.
WHOLE := $(BIN)/pytest -q -n $(or $(WORKERS),2) --dist loadfile --no-loadscope-reorder

test: setup ## every test that needs no Docker, in two processes: WORKERS=2
	@$(WHOLE)

test-long: setup ## the same with the full counts of the properties
	@HYPOTHESIS_PROFILE=long $(WHOLE) --timeout 3600

# The suites that talk to Kafka, Postgres and Dovecot most; the others use the same doors.
ON_CONTAINERS := matcher aggregator fetcher pipeline dlq restore

test-stack: setup ## the containers of docker-compose.yml, end to end (Docker is needed; on Debian .ci/docker up and .ci/base-images)
	@$(BIN)/pytest -q tests/stack
	@SERVERS=containers $(BIN)/pytest -q $(ON_CONTAINERS:%=tests/integration/test_%.py)

secrets: ## make the keys and passwords that docker-compose.yml needs; what exists stays
	@deploy/secrets

faults: setup ## fault runs: SEED=1 ROUNDS=1 FAULTS=60; differs in nothing or says where; CONTROL=1 must lose; STACK=1 on containers
	@$(BIN)/python -m tests.faults.run --seed $(or $(SEED),1) --rounds $(or $(ROUNDS),1) --faults $(or $(FAULTS),60) $(if $(CONTROL),--control) $(if $(STACK),--stack)

fuzz: setup ## mutated headers all the way to the event: SECONDS=300 SEED=1
	@$(BIN)/python -m tests.fuzz.headers --seconds $(or $(SECONDS),300) --seed $(or $(SEED),1)

.cache/bench/ready: requirements/bench.txt
	@test -x .cache/bench/bin/python || $(PYTHON) -m venv .cache/bench
	@echo "installing what the bench compares with, each file checked by its hash …"
	@.cache/bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

bench: setup .cache/bench/ready ## figures beside what one would take instead, as ratios in one run (Dovecot is needed)
	@$(BIN)/python -m bench $(PARTS)

soak: setup ## does anything grow? MINUTES=15 with all services, MESSAGES=5000000 stored in RocksDB (Dovecot is needed)
	@$(BIN)/python -m bench.soak $(PARTS) --minutes $(or $(MINUTES),15) --messages $(or $(MESSAGES),5000000)

check: setup ## format, lint, types, import rules
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## put imports in order and mend what can be mended
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

docs: setup ## render the pages that are made from the code
	@$(BIN)/replyrate config docs --write docs

clean: ## remove what setup and tests made
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
