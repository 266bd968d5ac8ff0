# kafkalab: `make run` and `make test` are all that a fresh clone needs. The README says the same without make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
NOTEBOOKS ?=
ONLY ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test lab notebooks exercises class offline bench soak lint lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

ifneq ($(wildcard offline/packages),)  # what `make offline` has made, on a machine without a network
$(VENV)/ready: export PIP_NO_INDEX := 1
# relative, since pip splits the variable at the blanks of a path
$(VENV)/ready: export PIP_FIND_LINKS := offline/packages
FROM := --from offline/servers
endif

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 15); sys.exit(None if ok else "kafkalab needs Python 3.11 to 3.14, this is %d.%d: choose another with make PYTHON=python3.13" % sys.version_info[:2])'
	@echo "Installing the locked packages into $(VENV), once; this takes a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/ready
	@echo "Installing what the tests need on top, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/ready  ## install the locked packages, fetch the servers (once)
	@$(BIN)/kafkalab fetch $(FROM)

run: setup  ## execute the notebooks headless; pages in build/; NOTEBOOKS="00 03" chooses some
	@$(BIN)/kafkalab run $(NOTEBOOKS)

test: setup $(VENV)/dev lint  ## lint, unit tests, tests on the real stack, every notebook under strict nbval
	$(BIN)/python -m pytest --nbval -n 3 --dist loadscope --no-loadscope-reorder --max-worker-restart=0 --durations=10 --reruns=1 --max-suite-reruns=10 --rerun-show-tracebacks

lab: setup  ## open the notebooks in JupyterLab
	@$(BIN)/kafkalab lab

notebooks: setup  ## execute the notebooks in place: the outputs that are committed
	@$(BIN)/kafkalab run --in-place $(NOTEBOOKS)

exercises: $(VENV)/dev  ## make notebooks/exercises from notebooks/solutions
	@$(BIN)/python -m tools.exercises

offline: setup  ## everything fetched, for a room without a network, into offline/
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes -r requirements.lock --dest offline/packages
	@$(BIN)/kafkalab fetch --to offline/servers
	@echo "Move this folder, without .venv and build; on arrival \`make setup\` checks it and takes it from there"

class: setup  ## run lesson 00 and its exercise for N=30 learners at once, on one stack
	@$(BIN)/python -m tools.whole_class $(or $(N),30)

bench: setup $(VENV)/dev  ## measure start, set-up, producing, consuming, tables and more; ONLY="start table" some
	@$(BIN)/python -m tools.bench $(ONLY)

soak: setup  ## kill, pause, cut and restart clients and brokers for MINUTES=60; stops where books do not balance
	$(BIN)/python -m tools.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/dev  ## ruff over code and notebooks, mypy over kafkalab
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-annotate --custom-compile-command "make lock"
lock: $(VENV)/dev  ## renew the locks: the Python packages and the jars
	$(COMPILE) --group setup pyproject.toml -o requirements.lock
	$(COMPILE) --group setup --group dev --extra nbgrader --extra polars -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(BIN)/python -m tools.locks

clean:  ## stop the stack, remove .venv and build (its data stay, `kafkalab down --wipe` forgets them; downloads stay too)
	@if [ -x $(BIN)/kafkalab ]; then $(BIN)/kafkalab down; fi
	rm -rf $(VENV) build
