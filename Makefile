# The two commands of the README, and what a developer needs beside them.

PYTHON ?= python3
# The address of PyTorch's index of CPU wheels (README says where it stands): torch without CUDA. Empty: as pip does.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(wildcard kernels/cpu/*)

.PHONY: run test check lint types clean

run: $(VENV)/.installed
	$(BIN)/pagedbench run --system paged --trace sharegpt --rate 2.0

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/pagedbench check

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') --editable

# Said before the first minutes of silence. Where torch brings CUDA for nothing, what would help.
define BEFORE_INSTALL
@echo "Installing into $(VENV); this takes minutes."
@if [ "$$(uname -s)" = Linux ] && [ -z '$(TORCH_INDEX)' ] && ! command -v nvidia-smi > /dev/null; then \
	echo "No GPU here: if pip fetches torch with CUDA (several GB), stop, and see TORCH_INDEX in README.md."; fi
endef

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(BEFORE_INSTALL)
	$(INSTALL) ".[plot]"
	touch $@

$(VENV)/.installed-dev: $(BIN)/python $(SOURCES)
	$(BEFORE_INSTALL)
	$(INSTALL) ".[dev]"
	touch $@ $(VENV)/.installed
