# The only door: every target makes its own .venv first. `make help` lists them.
PYTHON ?= python3
EXP ?= quickstart
ARGS ?=
PORT ?= 6006
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup train test lint format tensorboard bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv and install requirements.txt into it

# Stamped last, so that an interrupted installation is taken up again.
.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed, but $(PYTHON) is {v.major}.{v.minor}; pass PYTHON=python3.12, say" if v < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

train: setup ## Train a recipe: make train EXP=se2_separable ARGS="train.epochs=3 seed=1"
	$(BIN)/python scripts/train.py experiment=$(EXP) $(ARGS)

test: setup ## Run all tests
	$(BIN)/python -m pytest $(ARGS)

lint: setup ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## Format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: setup ## Show runs at http://localhost:6006: make tensorboard [EXP=se2_separable] [PORT=6007]
	$(BIN)/tensorboard --logdir logs$(if $(filter command line,$(origin EXP)),/$(EXP)) --host localhost --port $(PORT) --reload_multifile=true

bench: setup ## Measure every implementation and group beside a textbook path: docs/benchmarks.md
	$(BIN)/python scripts/benchmark.py $(ARGS)
