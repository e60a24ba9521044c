# make demo: the whole platform, a first batch, a live model. make test: everything that must hold.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed
PACKAGES := usedcars_assets streaming_app simulation local_platform

.DEFAULT_GOAL := help
.PHONY: help setup lock lint types imports browser test test-unit bench bench-serving

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(INSTALLED) ## the Python environment, from the lock files

$(INSTALLED): requirements.lock requirements.bootstrap.lock pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "usedcars needs Python 3.11, and '$(PYTHON)' is not: install it, or name it with make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.bootstrap.lock
	$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

lock: ## renew requirements.lock after a change of pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --no-annotate --output-file requirements.lock

lint: $(INSTALLED) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## strict types of the project's own packages
	$(BIN)/mypy

imports: $(INSTALLED) ## the contract between the rooms
	$(BIN)/lint-imports

browser: ## a Chromium for the tests of the manager's page
	@command -v chromium-headless-shell chromium google-chrome >/dev/null || test -n "$$USEDCARS_TEST_BROWSER" \
		|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
			&& apt-get install -y -qq --no-install-recommends chromium-headless-shell; } \
		|| { echo "the tests need a Chromium and could not install one: install it, or name its program in USEDCARS_TEST_BROWSER"; exit 1; }

test: browser lint types imports ## everything that must hold, against real services
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 25

test-unit: $(INSTALLED) ## what needs no services
	$(BIN)/pytest tests/unit

bench: $(INSTALLED) ## what is measured: the demo in a fresh clone, reading and cleaning a batch
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/etl.py

bench-serving: $(INSTALLED) ## serving beside its peers, with the model of a platform that is up (make demo)
	$(BIN)/python benchmarks/serving.py

include local_platform/platform.mk
