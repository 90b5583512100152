# Aerogram. `make help` lists what there is. Everything it makes lies in .venv*/ and var/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that is Python 3.11 or newer; `make PYTHON=… run` takes another.
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

VENV := .venv
FAST_VENV := .venv-fast
PY := $(VENV)/bin/python
# The full environment serves where it exists; without it test-fast makes do with a smaller one, without TensorFlow.
FAST := $(if $(wildcard $(VENV)/installed),$(VENV),$(FAST_VENV))
CODE := registry experiments distribution deploy manage.py
# Settings must be readable for checks that open no connection.
CHECKING := AEROGRAM_SECRET_KEY=unused DATABASE_URL=postgresql://nobody@127.0.0.1:9/none

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/installed ## start everything on this machine and stay until Ctrl-C
	@$(PY) -m deploy.dev.run

demo: $(VENV)/installed ## go through the demonstration again, against a `make run` in progress
	@$(PY) -m deploy.dev.exec -m deploy.demo

story: $(VENV)/installed ## four rollouts on 6 000 simulated devices, through the whole system, with their timeline
	@$(PY) -m tests.chaos.tell_story

test: $(VENV)/installed ## all tests on real PostgreSQL and Redis, two at a time (OPTIONS='-k name' picks some)
	$(PY) -m pytest --numprocesses 2 --dist loadfile $(OPTIONS)

test-fast: $(FAST)/installed ## tests of rules and units: no database, no TensorFlow, under a minute
	$(FAST)/bin/python -m pytest --numprocesses auto $(OPTIONS) -m "not database and not convert and not light and not chaos"

lint: $(VENV)/installed ## style, format, layers, types, missing migrations
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(CHECKING) $(VENV)/bin/mypy $(CODE)
	$(CHECKING) $(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

format: $(VENV)/installed ## rewrite the code in the common format
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

type: $(VENV)/installed ## types only
	$(CHECKING) $(VENV)/bin/mypy $(CODE)

bench: $(VENV)/installed ## measure the hot paths
	$(PY) -m bench

vectors: $(VENV)/installed ## write sdk_stubs/vectors again, from the pure modules
	$(PY) -m sdk_stubs.vectors.generate

docs: $(VENV)/installed ## check that everything is documented, and build docs/ as a site
	$(PY) -m pytest tests/test_docs.py
	$(VENV)/bin/mkdocs build --strict --quiet

lock: $(VENV)/installed ## compile deploy/locks from pyproject.toml (UPGRADE=--upgrade takes newer versions)
	$(call compile,dev,--extra onnx --extra dev $(UPGRADE))
	$(call compile,fast,--extra dev --constraint deploy/locks/dev.txt)
	$(call compile,onnx,--extra onnx --constraint deploy/locks/dev.txt)
	$(call compile,convert,--extra convert --constraint deploy/locks/dev.txt)
	$(call compile,light,--extra light --constraint deploy/locks/dev.txt)
	$(call compile,server,--constraint deploy/locks/dev.txt)

clean: ## remove caches and data of tests; the data of `make run` and the environments stay
	rm -rf build dist site var/test .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find $(wildcard $(CODE) tests bench sdk_stubs) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: deploy/locks/dev.txt
$(FAST_VENV)/installed: deploy/locks/fast.txt
.venv/installed .venv-fast/installed:
	@deploy/dev/install "$(PYTHON)" "$(@D)" "$<"

.PHONY: help run demo story test test-fast lint format type bench vectors docs lock clean

# Hashes make an install from any index the same; the address of an index has no place in a repository.
compile = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--fork-strategy fewest --no-annotate --no-emit-index-url --no-emit-find-links --output-file deploy/locks/$(1).txt pyproject.toml $(2)
