# One target a habit. `make demo` on a fresh machine needs Python 3.11+, pip, make and a package index, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Another build of PyTorch: make install TORCH="torch==2.13.0 --index-url URL-OF-THE-BUILD"
TORCH  ?= torch==2.13.0
DATA   ?=

.PHONY: install check test test-slow bench demo docs clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): about 2 GB, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[train,dev]"
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_commands.py | diff docs/commands.md -
	$(BIN)/python -m luthier.task.reference | diff docs/configuration.md -

# three processes of one thread each: the fast tests often wait, for servers and for processes of their own
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 3

test-slow: install
	$(BIN)/python -m pytest -m slow --durations=25

bench: install
	$(BIN)/python benchmarks/run_all.py $(DATA)

demo: install
	$(BIN)/luthier demo

docs: install
	$(BIN)/python docs/make_commands.py > docs/commands.md
	$(BIN)/python -m luthier.task.reference > docs/configuration.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
