# What a person types. `make demo` and `make test` need nothing but Python 3.11 or later, Maven and make.
SHELL := /bin/bash
BIN := .venv/bin
DEMO_INPUT ?=
PYTEST_ARGS ?=

PACKAGES := libs/hlf libs/model libs/readmodel libs/common chaincode network network/devnet \
            services/registration services/records services/consent services/indexer deploy

.DEFAULT_GOAL := help
.PHONY: help setup lint format test demo up down status bench bench-reads conformance fuzz crash joining failover restoring waiting network-kills dictionary api-fuzz lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:  ## make .venv, fetch Kafka and the Node test client; what is there already is left alone
	@deploy/setup.sh

lint: setup  ## ruff, mypy --strict and the import rules, over everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(filter-out network/devnet,$(PACKAGES)) tests $(wildcard benchmarks)
	$(BIN)/lint-imports

format: setup  ## let ruff mend and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint  ## every check and every test: first those of parts, two files at a time, then those of the whole system
	$(BIN)/pytest -n 2 --dist loadfile -m "not stack" $(PYTEST_ARGS) || (($$? == 5))
	$(BIN)/pytest -m stack $(PYTEST_ARGS) || (($$? == 5)) # 5: PYTEST_ARGS left none of these

demo: setup  ## both workflows, told step by step; DEMO_INPUT=FOLDER takes FHIR bundles from there
	@$(BIN)/emr demo $(DEMO_INPUT)

up: setup  ## start two hospitals and leave them running
	@$(BIN)/emr up

down: setup  ## stop them; what they hold stays
	@$(BIN)/emr down

status: setup  ## every process, its health, height and lag
	@$(BIN)/emr status

bench: setup  ## measure notes a second and milliseconds to commit and to the row
	@$(BIN)/python -m benchmarks.notes

bench-reads: setup  ## searches at READS_NOTES (10^3, 10^5, 10^6) notes: p50, p99, memory, plans
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.reads --plans

conformance: setup  ## devnet against official Fabric (FABRIC_BIN); writes docs/verified-on-fabric.md
	$(BIN)/pytest tests/conformance tests/unit/hlf/test_client_on_networks.py tests/unit/hlf/test_ca_client.py \
		tests/integration/chaincode tests/integration/majority --write-verified $(PYTEST_ARGS)

fuzz: setup  ## FUZZ_SECONDS (60) of changed messages against devnet
	PYTHONPATH=tests $(BIN)/python -m fuzz

crash: setup  ## CRASH_ROUNDS (200, 100, 40) of kill -9 under load, of devnet, indexer, services, the whole system
	PYTHONPATH=tests $(BIN)/python -m crash

joining: setup  ## a hospital joins the whole running system under load; PYTEST_ARGS="--ledger fabric"
	JOINING=1 $(BIN)/pytest -s tests/joining $(PYTEST_ARGS)

failover: setup  ## two official peers a hospital, each killed and hung under load, on the whole system (FABRIC_BIN)
	FAILOVER=1 $(BIN)/pytest -s tests/failover $(PYTEST_ARGS)

restoring: setup  ## a backup of a running system, restored elsewhere, started, verified and used
	RESTORING=1 $(BIN)/pytest -s tests/restoring $(PYTEST_ARGS)

waiting: setup  ## what own keys leave lying is void after four and ten minutes, by waiting for them
	WAITING=1 $(BIN)/pytest -s tests/scenario/test_own_keys.py -k left_lying $(PYTEST_ARGS)

network-kills: setup  ## `emr network up|add-org|upgrade-chaincode|remove-org` killed after every step, on both ledgers
	KILL_EVERY_STEP=1 $(BIN)/pytest -s tests/integration/network tests/conformance/test_killed_administration.py $(PYTEST_ARGS)

dictionary: setup  ## write docs/data-dictionary.md anew from the schema's comments
	WRITE_DICTIONARY=1 $(BIN)/pytest -q tests/unit/readmodel/test_dictionary.py

api-fuzz: setup  ## API_FUZZ_EXAMPLES (200) generated requests to each operation of every service
	API_FUZZ_EXAMPLES=$${API_FUZZ_EXAMPLES:-200} $(BIN)/pytest -s tests/security/test_api_fuzz.py $(PYTEST_ARGS)

lock: setup  ## write requirements.lock anew from the packages' ranges
	$(BIN)/uv export -q --all-packages --no-emit-workspace --no-header --no-annotate -o requirements.lock
	rm -f uv.lock

clean:  ## remove what set-up and runs have made
	rm -rf .venv .cache .emr
