# make demo: the whole platform, a first batch, a live model. make test: everything that must hold.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed
PACKAGES := usedcars_assets streaming_app simulation local_platform

.DEFAULT_GOAL := help
.PHONY: help setup lock lint types imports browser helm test test-unit images k8s-install k8s-uninstall test-k8s bench bench-training bench-serving

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(INSTALLED) ## the Python environment, from the lock files

$(INSTALLED): requirements.lock requirements.bootstrap.lock pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "usedcars needs Python 3.11, and '$(PYTHON)' is not: install it, or name it with make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.bootstrap.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

# pip's format with hashes; the same for whatever place it is made at, the images' for their Linux only.
COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate
IN_IMAGE := $(COMPILE) --constraint requirements.lock

lock: ## renew the lock files after a change of pyproject.toml
	$(COMPILE) --universal pyproject.toml --all-extras --output-file requirements.lock
	printf 'mlflow\npsycopg2-binary\n' | $(IN_IMAGE) - --output-file docker/mlflow.lock
	$(IN_IMAGE) pyproject.toml --extra streaming --output-file docker/streaming.lock
	$(IN_IMAGE) pyproject.toml --extra streaming --extra simulation --extra assets --extra kubernetes --output-file docker/assets.lock
	echo psutil | $(IN_IMAGE) - --output-file docker/jars.lock

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

helm: $(INSTALLED) ## a helm for the tests of the charts, built from its source where there is none
	@command -v helm >/dev/null || test -x $(BIN)/helm || { command -v go >/dev/null \
		&& GOBIN=$(CURDIR)/$(BIN) go install helm.sh/helm/v3/cmd/helm@v3.18.6; } \
		|| echo "there is neither helm nor Go to build it with: the tests of the charts are skipped"

test: $(INSTALLED) ## everything that must hold, against real services
	$(MAKE) --no-print-directory --jobs 3 $(if $(filter output-sync,$(.FEATURES)),--output-sync) browser helm lint types imports
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 25 --ignore tests/cluster

test-unit: $(INSTALLED) ## what needs no services
	$(BIN)/pytest tests/unit

images: ## the images of all components, and their sizes; see docker/images
	docker/images

k8s-install: ## the platform into the cluster that KUBECONFIG names; SMALL=1 for one small node
	helm_values/install

k8s-uninstall: ## all of it but the volumes
	helm_values/uninstall

test-k8s: $(INSTALLED) ## the platform in the cluster that KUBECONFIG names, with the images of docker/ on its nodes
	$(BIN)/pytest tests/cluster -s

bench: $(INSTALLED) ## what is measured: the demo in a fresh clone, reading and cleaning a batch
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/etl.py

bench-training: $(INSTALLED) ## raw file to model, beside notebooks: TRAINING_ROWS="30000 300000"
	$(BIN)/python benchmarks/training.py --rows $(or $(TRAINING_ROWS),30000) --keep docs/benchmarks

bench-serving: $(INSTALLED) ## serving beside its peers, with the model of a platform that is up (make demo)
	$(BIN)/python benchmarks/serving.py

include local_platform/platform.mk
