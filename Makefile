# The only door: every target makes its own .venv first. `make help` lists them.
PYTHON ?= python3
EXP ?= quickstart
DATA ?=
RUN ?=
RUNS ?=
METRIC ?=
STUDY ?= alias
SWEEP ?= grid
GPUS ?=
NODES ?=
ARGS ?=
PORT ?= 6006
JOBS ?= auto
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup train sweep resume project evaluate runs compare report study demo tutorial doctor data show test test-resume lint format tensorboard docs bench bench-fft bench-data

FLAGS = $(if $(FRESH),--fresh) $(if $(FORCE),--force) $(if $(DRY),--dry-run)
PLACE = $(if $(GPUS),trainer.devices=$(GPUS)) $(if $(NODES),trainer.num_nodes=$(NODES))

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv and install requirements.txt into it

# Stamped last, so that an interrupted installation is taken up again.
.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed, but $(PYTHON) is {v.major}.{v.minor}; pass PYTHON=python3.12, say" if v < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

# What sweeps need beside it is large, and installed on first use.
.venv/.installed-sweep: requirements-sweep.txt .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-sweep.txt
	@touch $@

train: setup ## Train a recipe, or go on with it: make train EXP=se2_separable [GPUS=4] [FRESH=1] [DRY=1] ARGS="seed=1"
	$(BIN)/python scripts/train.py $(FLAGS) experiment=$(EXP) $(PLACE) $(ARGS)

sweep: .venv/.installed-sweep ## A run on each GPU: make sweep EXP=sim2_separable SWEEP=implementations [GPUS=4] ARGS="seed=0,1,2"
	$(BIN)/python scripts/sweep.py experiment=$(EXP) sweep=$(SWEEP) $(if $(GPUS),sweep.gpus=$(GPUS)) $(ARGS)

resume: setup ## Go on with a run: make resume RUN=logs/quickstart/seed0-1a2b3c4d [FORCE=1 ARGS="train.epochs=50"]
	@$(if $(RUN),:,echo "error: RUN must be the folder of a run; make runs lists them" >&2; exit 1)
	$(BIN)/python scripts/train.py --resume $(RUN) $(FLAGS) $(PLACE) $(ARGS)

project: setup ## Fine-tune a run's net in another form: make project RUN=logs/se2_nonseparable/seed0-... ARGS="implementation=separable"
	@$(if $(RUN),:,echo "error: RUN must be the folder of a run; make runs lists them" >&2; exit 1)
	$(BIN)/python scripts/project.py $(RUN) $(if $(FRESH),--fresh) $(if $(DRY),--dry-run) $(PLACE) $(ARGS)

evaluate: setup ## Test a run again: make evaluate RUN=logs/quickstart/seed0-1a2b3c4d [DATA=mnist] ARGS="dataset.rotate=false"
	@$(if $(RUN),:,echo "error: RUN must be the folder of a run; make runs lists them" >&2; exit 1)
	$(BIN)/python scripts/evaluate.py $(RUN) $(if $(DATA),dataset=$(DATA)) $(ARGS)

runs: setup ## List all runs: make runs [EXP=se2_separable] [ARGS="--status complete"]
	$(BIN)/python scripts/runs.py $(if $(filter command line,$(origin EXP)),--experiment $(EXP)) $(ARGS)

compare: setup ## Mean and deviation over seeds: make compare EXP=se2_separable METRIC=test/acc
	$(BIN)/python scripts/compare.py $(if $(METRIC),--metric $(METRIC)) $(if $(filter command line,$(origin EXP)),--experiment $(EXP)) $(ARGS)

doctor: setup ## Look at versions, GPUs, disk and folders
	$(BIN)/python scripts/doctor.py $(ARGS)

data: setup ## Download, verify and describe a data set: make data DATA=cifar10
	$(BIN)/python scripts/data.py $(if $(DATA),dataset=$(DATA)) $(ARGS)

show: setup ## Draw samples before and after augmentation: make show DATA=cifar10 ARGS="augment=crop_flip"
	$(BIN)/python scripts/show.py $(if $(DATA),dataset=$(DATA)) $(if $(filter command line,$(origin EXP)),experiment=$(EXP)) $(ARGS)

# A process for each core, each with one thread: most tests are too small to share. Files go to whichever process is free,
# the longest first (tests/conftest.py), and what a file prepares is prepared once.
test: .venv/.installed-sweep ## Run all tests, or the quick ones: make test [JOBS=4] ARGS="-m quick"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

test-resume: setup ## Kill a run over and over, and compare what it comes to: docs/reliability.md
	$(BIN)/python tests/kills.py $(ARGS)

lint: setup ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## Format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: setup ## Show runs at http://localhost:6006: make tensorboard [EXP=se2_separable] [RUN=logs/...] [PORT=6007]
	$(BIN)/tensorboard --logdir $(or $(RUN),logs$(if $(filter command line,$(origin EXP)),/$(EXP))) --host localhost --port $(PORT) --reload_multifile=true

report: setup ## One page of a run, or of several: make report RUN=logs/quickstart/seed0-1a2b3c4d, or RUNS="logs/... logs/..."
	@$(if $(RUN)$(RUNS),:,echo "error: RUN must be the folder of a run, or RUNS several; make runs lists them" >&2; exit 1)
	$(BIN)/python scripts/report.py $(RUN) $(RUNS) $(ARGS)

study: setup ## Train variants side by side, and test them on moved images: make study STUDY=alias [ARGS="--seeds 0"]
	$(BIN)/python scripts/study.py --study $(STUDY) $(ARGS)

demo: setup ## Train a G-CNN and a CNN of its size on upright digits, test both on rotated ones, and draw it
	$(BIN)/python scripts/study.py --study demo $(ARGS)

tutorial: setup ## Execute docs/tutorial.ipynb anew and keep what it shows
	$(BIN)/python tests/test_notebook.py

docs: setup ## List again in README and docs what is in configs/
	$(BIN)/python scripts/docs.py $(ARGS)

bench: setup ## Measure every implementation and group beside a textbook path: docs/benchmarks.md
	$(BIN)/python scripts/benchmark.py $(ARGS)

bench-fft: setup ## Measure convolutions by the Fourier transform beside direct ones: docs/spaces.md
	$(BIN)/python scripts/benchmark_fft.py $(ARGS)

bench-data: setup ## Measure whole-batch augmentation beside per-sample pipelines
	$(BIN)/python scripts/benchmark_data.py $(ARGS)
