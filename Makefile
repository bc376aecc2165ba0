# Everything is installed into .venv, from the package registry that pip is set up with. `make` lists what there is.
# A stamp in .venv stands for an install that is done, so nothing is installed twice; PYTHON names the Python to use.

SHELL = /bin/sh
PYTHON =
PIP_FLAGS = --quiet --quiet
PYTEST_FLAGS =
TEST_PROCESSES = 2
CONSTRAINTS = constraints.txt

VENV = .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-input $(PIP_FLAGS) -c $(CONSTRAINTS)
SUPPORTED = import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.PHONY: help demo test test-slow test-fast test-oldest test-long audit lint docs default-index indexes tables-page reference-pages clean

help:
	@echo 'make demo           install, score examples/photos, say which file to open'
	@echo 'make test           install everything (torch too) and run the tests that take seconds'
	@echo 'make test-slow      run the others: every training job, Ray clusters, kills, whole nights'
	@echo 'make test-fast      run the tests that need no torch and are quick'
	@echo 'make test-oldest    the same with the oldest releases that pyproject.toml allows, in .venv-oldest'
	@echo 'make test-long      50 kills, 20 full disks, 10,000 damaged files (most of an hour)'
	@echo 'make lint           ruff, mypy, import-linter, hadolint'
	@echo 'make docs           build the documentation into site/, strictly'
	@echo 'make audit          look the pinned releases up in the advisory database (needs a network)'
	@echo 'make default-index  train the models and build indexes/default (needs the data)'
	@echo 'make indexes        embed CelebA and Fashion-MNIST and build their indexes (needs the data)'
	@echo 'make tables-page    write docs/reference/tables.md from the contract'
	@echo 'make reference-pages  write all pages that are made from the code, and the subgroup figures'
	@echo 'make clean          remove outputs, builds and caches (not .venv, runs or indexes)'

demo: $(VENV)/.installed-base
	@$(BIN)/stylematch-batch score examples/photos --out stylematch-out --overwrite

test: $(VENV)/.installed-train
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) -m 'not slow' $(PYTEST_FLAGS)

test-slow: $(VENV)/.installed-train
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) -m slow $(PYTEST_FLAGS)

test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) -m 'not train and not slow' $(PYTEST_FLAGS)

test-oldest:
	@$(MAKE) --no-print-directory .venv-oldest/.made VENV=.venv-oldest
	@.venv-oldest/bin/python .ci/oldest > .venv-oldest/oldest.txt
	@$(MAKE) --no-print-directory test-fast VENV=.venv-oldest CONSTRAINTS=.venv-oldest/oldest.txt

test-long: $(VENV)/.installed-test
	STYLEMATCH_LONG=1 $(BIN)/python -m pytest tests/test_benchmarks.py tests/test_nothing_lost.py tests/test_plan.py -s $(PYTEST_FLAGS)

audit: $(VENV)/.installed-audit
	@$(BIN)/python .ci/audit

lint: $(VENV)/.installed-lint
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint jobs/deploy/Dockerfile

# Its banner about other generators is no warning of ours.
docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

default-index: $(VENV)/.installed-train
	$(BIN)/stylematch-batch train jobs/garments.toml
	$(BIN)/stylematch-batch train jobs/garments-longer.toml
	$(BIN)/stylematch-batch train jobs/garments-taught.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-distilled.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-student.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-landmarks.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-points.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-160.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-late.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-int8.toml
	$(BIN)/stylematch-batch train jobs/celeba-mobilenet-int8-points.toml
	$(BIN)/stylematch-batch default-index --out indexes/default
	$(BIN)/stylematch-batch rules fit --report docs/how-it-works

indexes: $(VENV)/.installed-base
	$(BIN)/stylematch-batch embed jobs/embed-celeba.toml
	$(BIN)/stylematch-batch embed jobs/embed-fashion-mnist.toml

tables-page: $(VENV)/.installed-base
	$(BIN)/python docs/reference/make_tables.py

reference-pages: tables-page
	$(BIN)/python docs/reference/make_cli.py
	$(BIN)/python docs/reference/make_settings.py
	$(BIN)/python docs/reference/make_shards.py
	$(BIN)/python docs/reference/make_subgroups.py
	$(BIN)/python docs/reference/make_scaling.py
	$(BIN)/python docs/reference/make_speed.py
	$(BIN)/python docs/reference/make_search_sheet.py

clean:
	rm -rf site stylematch-out .stylematch-out.stylematch-* build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .grimp_cache
	find stylematch tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that is there is used as it is, provided that its Python fits.
$(VENV)/.made:
	@if [ -e $(BIN)/python ]; then \
	  if ! $(BIN)/python -c '$(SUPPORTED)' 2>/dev/null; then \
	    echo 'The environment in $(VENV) is not of Python 3.11 to 3.13: remove the folder and run make again.' >&2; exit 1; \
	  fi; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for python in "$(PYTHON)" python3 python3.13 python3.12 python3.11; do \
	    if [ -n "$$python" ] && "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1; then found=$$python; break; fi; \
	    if [ -n "$(PYTHON)" ]; then break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    if [ -n "$(PYTHON)" ]; then tried='$(PYTHON)'; else tried='python3, python3.13, python3.12 or python3.11'; fi; \
	    echo "stylematch needs Python 3.11 to 3.13, and found none as $$tried." \
	      'Install one, or name it: make demo PYTHON=/path/to/python3.13' >&2; exit 1; \
	  fi; \
	  "$$found" -m venv $(VENV) || exit 1; \
	fi; \
	touch $@

$(VENV)/.installed-base: pyproject.toml constraints.txt | $(VENV)/.made
	@echo 'Installing stylematch into $(VENV) (about 600 MB on disk, a minute or two) ...'
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.made
	@echo 'Installing stylematch and its test tools into $(VENV) ...'
	@$(INSTALL) -e '.[heic,openvino,ray,serve,docs,test]'
	@touch $(VENV)/.installed-base $@

$(VENV)/.installed-train: pyproject.toml constraints.txt | $(VENV)/.made
	@echo 'Installing stylematch, its test tools and torch into $(VENV) (several GB on disk, some minutes) ...'
	@$(INSTALL) -e '.[train,timm,heic,openvino,ray,serve,docs,test]'
	@touch $(VENV)/.installed-base $(VENV)/.installed-test $@

$(VENV)/.installed-audit: pyproject.toml constraints.txt | $(VENV)/.made
	@echo 'Installing stylematch and pip-audit into $(VENV) ...'
	@$(INSTALL) -e '.[audit]'
	@touch $(VENV)/.installed-base $@

# mypy reads torch's types, so linting needs the train extra too.
$(VENV)/.installed-lint: pyproject.toml constraints.txt $(VENV)/.installed-train
	@echo 'Installing the linters into $(VENV) ...'
	@$(INSTALL) -e '.[lint]'
	@touch $(VENV)/.installed-base $(VENV)/.installed-test $(VENV)/.installed-train $@
