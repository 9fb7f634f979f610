# make demo | make test | make lab | make ui: each sets up all it needs in .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

# Whatever is started here keeps to itself: no usage reports to anybody.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help ours demo test test-servers lint pytest stress lives watching bench docs examples lab ui server lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   AAPL through the whole lifecycle, on real prices (under two minutes after the installation)"
	@echo "make test   all tests, linters, types and layers"
	@echo "make lab    JupyterLab, on the start page notebooks/index.ipynb"
	@echo "make ui     MLflow's own pages on the registry"
	@echo "make server a registry for a team: MLflow's server over PostgreSQL, on this machine's loopback (PORT=5000)"
	@echo "make test-servers  what takes minutes: servers, clusters, the pages' commands; then against an older MLflow server (2.7.1, in $(OLDER))"
	@echo "make stress hundreds of races, kills, histories and simulated forecasters (ROUNDS=100 of each kind; more than two hours)"
	@echo "make lives  five years under the promotion policy, simulated: the table in docs/policy.md (SCALE=1; some ten minutes)"
	@echo "make watching  what the watch over the champion sees in five years, simulated: the tables in docs/watch.md (SCALE=1; some five minutes)"
	@echo "make bench  times, ratios and peak memory in one table (ONLY=\"register batch\" chooses, QUICK=1 tries; about two hours)"
	@echo "make examples  outputs/examples/ anew: an executed promotion, its report and a picture of it (needs Chromium)"
	@echo "make docs   docs/settings.md and docs/formats.md anew, from the models of params.yaml and the table of formats"
	@echo "make lint   linters, types and layers only"
	@echo "make lock   resolve requirements.lock anew"
	@echo "make clean  remove .venv and caches; outputs/ stays"

# Only what is marked as made here is filled, emptied or removed: an environment gets its mark, with an old date, as soon as
# there is one, and today's date when it is whole.
named = $($(1):%/=%)
foreign = [ -L "$(named)" ] || { [ -e "$(named)" ] && [ ! -e "$(named)/$(2)" ] && [ -n "$$(ls -A "$(named)")" ]; }
refuse = if $(foreign); then echo "$(named) is a link, or holds what this Makefile did not make, and would be emptied: \
  move it away, or name another folder, such as make $(1)=$(named)-fx" >&2; exit 1; fi
create = $(PYTHON) -m venv --clear $(@D) && touch -t 200001010000 $@

ours:
	@$(call refuse,VENV,$(notdir $(LOCKED)))
	@$(call refuse,OLDER,.ready)

$(LOCKED): requirements.lock | ours
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found %s (choose one: make PYTHON=python3.12 …)" % sys.version.split()[0])'
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(create)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	@$(BIN)/fx demo

test: lint pytest

lint: $(READY)
	$(BIN)/pre-commit run --all-files

# tests wait for kernels and servers: a third worker fills two cores
pytest: $(READY)
	$(BIN)/python -m pytest -n 3 --dist worksteal

OLDER := .venv-mlflow-2.7.1
$(OLDER)/.ready: tests/mlflow-2.7.1.lock | ours
	@echo "Setting up $(OLDER): the older server that DagsHub runs"
	@$(create)
	@$(OLDER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

test-servers: $(READY) $(OLDER)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal tests --servers
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/test_servers.py tests/test_faults.py --older-mlflow $(CURDIR)/$(OLDER)/bin/mlflow

ROUNDS ?= 100
stress: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/test_evenings.py tests/test_faults.py tests/test_histories.py tests/test_lives.py \
	  tests/test_lock.py tests/test_policy.py tests/test_pooled.py tests/test_servers.py tests/test_watching.py --rounds $(ROUNDS)

SCALE ?= 1
lives: $(READY)
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m lives --scale $(SCALE)

watching: $(READY)
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m watched --scale $(SCALE)

ONLY ?=
QUICK ?=
bench: $(READY)
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ONLY)

docs: $(READY)
	@$(BIN)/python tests/settings_page.py > docs/settings.md
	@$(BIN)/python tests/settings_page.py formats > docs/formats.md

# Opens the start page, and asks nobody for news or updates: overrides.json answers the question whether it may, the options
# below hold even for users who said yes. What is open is remembered in .venv; the settings in the home folder are read, not written.
LAB := --LabApp.default_url=/lab/tree/notebooks/index.ipynb --LabApp.app_settings_dir=$(CURDIR)/.jupyter \
  --LabApp.workspaces_dir=$(CURDIR)/$(VENV)/share/jupyter/lab/workspaces --LabApp.extension_manager=readonly --LabApp.news_url=None \
  --LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate \
  --Scheduler.execution_manager_class=fxhelpers.runs.scheduled.RecordExecutionManager
CHROMIUM ?= chromium
# the demo's second promotion, in a folder of its own, and a picture of its report
examples: $(READY)
	@folder=$$(mktemp -d) && cp -R params.yaml notebooks $$folder && (cd $$folder && $(CURDIR)/$(BIN)/fx demo) \
	  && record=$$(ls $$folder/outputs/records/AAPL/*-promote-*.ipynb | sed -n 2p) && mkdir -p outputs/examples \
	  && cp $$record outputs/examples/promotion.ipynb && cp $${record%.ipynb}.html outputs/examples/promotion.html \
	  && $(CHROMIUM) --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=940,1180 \
	    --screenshot=outputs/examples/promotion.png "file://$(CURDIR)/outputs/examples/promotion.html" 2> $$folder/chromium.log \
	  && rm -rf $$folder

lab: $(READY)
	@$(BIN)/jupyter lab $(LAB) --ServerApp.root_dir=$(CURDIR)

ui: $(READY)
	@$(BIN)/fx ui

PORT ?= 5000
server: $(READY)
	@$(BIN)/fx server --port $(PORT)

lock: $(READY)
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate --quiet pyproject.toml -o requirements.lock
	printf 'mlflow==2.7.1\nsqlalchemy<2.1\nsetuptools<81\n' | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet - -o tests/mlflow-2.7.1.lock

clean: ours
	rm -rf $(VENV) $(OLDER) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
