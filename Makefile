# Each target sets itself up: it needs make, and Python 3.11 or newer, and nothing else.
#   make demo   the main job on the embedded data: a table and a picture in minutes
#   make test   all tests, with a real Label Studio in an environment of its own; with a real browser if Chromium is there
#   make lint   formatting, lint, types, import contracts
#   make check  lint and test, what the continuous integration runs
#   make results  the tables and the picture of README.md, anew (hours on two cores)
# PYTHON=... names an interpreter, VENV=... another environment, ARGS=... passes options on to pytest or the demo.

VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Label Studio pins the versions of much that we use too, so it lives apart.
STUDIO := $(VENV)-studio
STUDIO_READY := $(STUDIO)/.ready
STUDIO_VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' stp_bench/annotate/server.py)

# The comparison of README.md: all methods, three seeds, both embedded benchmarks.
METHODS := raw downsample-2x downsample-4x blackening blur-strong blur-weak collective vita spact stprivacy
COMPARE := $(BIN)/stp-bench evaluate --protocol known --seeds 3 $(METHODS:%=--method %)

.PHONY: help demo test lint check results format install clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

demo: $(READY)
	$(BIN)/stp-bench evaluate --method stprivacy --protocol unseen $(ARGS)

test: $(READY) $(STUDIO_READY)
	STP_BENCH_LABEL_STUDIO="$(abspath $(STUDIO)/bin/label-studio)" $(BIN)/python -m pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

results: $(READY)
	$(COMPARE) --on synth-hmdb --out build/results/synth-hmdb
	$(COMPARE) --on synth-ucf --out build/results/synth-ucf
	$(BIN)/python tools/results_table.py build/results/synth-hmdb/result.json build/results/synth-ucf/result.json
	$(BIN)/stp-bench evaluate --method stprivacy --protocol unseen --out build/results/demo
	mkdir -p docs/images
	cp build/results/demo/result.png docs/images/result.png
	cp build/results/synth-hmdb/result.png docs/images/tradeoff.png
	cp build/results/synth-hmdb/methods.png docs/images/methods.png

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(READY)

# Made again when the requirements change; pip then only installs what differs.
$(READY): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
	  python="$$(sh tools/find-python.sh '$(PYTHON)')"; \
	  echo "making $(VENV) with $$python"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(STUDIO_READY): stp_bench/annotate/server.py | $(READY)
	$(BIN)/python -m venv $(STUDIO)
	$(STUDIO)/bin/python -m pip install --disable-pip-version-check --quiet label-studio==$(STUDIO_VERSION)
	@touch $@

clean:
	rm -rf $(VENV) $(STUDIO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
