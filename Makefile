# Twinlog's targets. Everything happens in .venv, made on first use; a fresh machine needs python3 >= 3.11 and make.
#
#   make up                 a primary and a standby on this machine, in the background, below .local-pair/
#   make down               stop exactly those two
#   make test               the test suite (the long sweeps, loop mounts and Docker tests are run by .ci/run)
#   make lint               ruff, the import contracts
#   make sim SEEDS=200      the whole cluster in one process, 200 fresh seeds; SEED=7 replays one; ARGS="--world both --for 30m"
#   make keys               the two key files that docker-compose.yml asks for, below .docker-pair/
#   make bench              Twinlog beside Redis and PostgreSQL, all cases, about five minutes; ARGS="--long --out results" for hours

PYTHON ?= python3
PAIR   ?= .local-pair
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.twinlog-installed

# Compiled once, below .venv, also where the environment says that no bytecode is to be kept: each start of a node would compile everything again.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode

.DEFAULT_GOAL := help
.PHONY: help venv up down test lint sim keys bench

help:
	@sed -n 's/^#   //p' Makefile

venv: $(STAMP)

# The stamp makes the second run free; it is renewed when the dependencies or the native kernel change or the checkout
# has moved. Where no compiler is found the kernel is left out and the pure functions serve.
$(STAMP): pyproject.toml setup.py storage/kernel.c storage/fields.c storage/text.c storage/exchange.c storage/packing.c storage/fetching.c storage/crc32c.h storage/growing.h
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Twinlog needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "python3 cannot make a virtual environment here (on Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing Twinlog and its tools into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

up: $(STAMP)
	@$(BIN)/python -m ops.main up $(PAIR)

down:
	@if [ -x $(BIN)/python ] && [ -d $(PAIR) ]; then $(BIN)/python -m ops.main down $(PAIR); else echo "no local pair below $(PAIR)"; fi

test: $(STAMP)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not sweep and not docker and not loop" $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache

# SEED replays one world; SEEDS plays that many fresh ones.
sim: $(STAMP)
	@$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),20)) $(ARGS)

# The containers' user joins the group of these files, whose number compose takes from .env.
keys: $(STAMP)
	@for name in client cluster; do \
		[ -e .docker-pair/$$name.key ] || $(BIN)/python -m ops.main keygen --group .docker-pair/$$name.key; \
	done
	@grep -qs '^TWINLOG_KEY_GROUP=' .env || echo "TWINLOG_KEY_GROUP=$$(stat -c %g .docker-pair/client.key)" >> .env

# Its report says what was left out, such as a peer that is not installed. ARGS="point --no-peers": one case, Twinlog alone.
bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)
