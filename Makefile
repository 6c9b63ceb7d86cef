# Every target sets up what it needs; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP_DONE := $(VENV)/.setup-done
ARGS ?=
# Even where bytecode is not wanted: the tests start hundreds of processes of this code.
export PYTHONDONTWRITEBYTECODE :=

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: $(SETUP_DONE) ## install everything this project needs into .venv

$(SETUP_DONE): pyproject.toml constraints.txt
	@deploy/setup-python "$(PYTHON)" "$(VENV)"
	@touch $@

demo: setup ## scan a real tree, print its usage and serve the page (PATH by ARGS="/usr --once")
	@$(BIN)/datamgr demo $(ARGS)

test: setup system-packages ## run every test
	@$(BIN)/pytest --numprocesses 3 $(ARGS)

check: setup ## the fast loop: ruff, mypy, import contracts, unit tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest tests/unit $(ARGS)

format: setup ## rewrite the sources in the house style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## print the benchmarks as ratios (COUNT=1000000 entries)
	@$(BIN)/python -m benchmarks $(ARGS)

torture: setup ## the long soaks in full (ARGS="--kills 300 --seed 1")
	@$(BIN)/pytest tests -m soak --full-soak --timeout 0 $(ARGS)

docs: setup ## write the generated pages of docs/
	@$(BIN)/python docs/generate.py

screenshots: setup system-packages ## remake docs/images/*.png from a scan of /usr
	@$(BIN)/python docs/screenshots.py $(ARGS)

system-packages: ## Debian packages that the tests need, when root and missing
	@deploy/setup-system

.PHONY: help setup demo test check format bench torture docs screenshots system-packages
