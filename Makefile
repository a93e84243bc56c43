# Needs GNU make, git and Python 3.10 or newer; everything else goes into a virtual environment.
# Another Python: make test PYTHON=python3.10 VENV=.venv310

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
# Much of the time is waiting for rollovers, so tests run side by side; tests/conftest.py says how many.
SIDE_BY_SIDE := --numprocesses auto --dist worksteal
# The slow tests have servers with several workers each, under load: more of them at a time would starve a worker that
# has the lock for longer than the others wait for it. Hosts that share a log wait for each other's locks, on a busy
# machine for long, and a writer that ends meanwhile loses what it has in memory (docs/explanation/promises.md).
HOSTS := tests/hosts
# The tests of what the extras are for.
OF_EXTRAS = $(wildcard $(patsubst %,tests/*/test_%*.py,access archives celery cli flask gunicorn json metrics page status uwsgi))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo serve test slow lowest guests unit lint dist bench docs site clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo ## four gunicorn workers, the standard handler against rollsafe, one table
	$(BIN)/python -m example_app.demo

serve: $(VENV)/.installed-demo ## run the example application on gunicorn until Ctrl-C
	@echo "Serving on the address in gunicorn.conf.py, http://127.0.0.1:8000 unless you changed it; the logs are in logs/. Ctrl-C ends it."
	$(BIN)/gunicorn --config gunicorn.conf.py

test: lint ## the suite: ruff, mypy, pytest
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

slow: lowest $(VENV)/.installed-test $(VENV)/uwsgi/bin/uwsgi $(VENV)/guests/programs ## the tests that take long: every server, network file systems, log shippers
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --numprocesses 4 -m slow --ignore $(HOSTS)
	$(BIN)/python -m pytest -m slow $(HOSTS)

lowest: $(VENV)/lowest/.installed ## the tests of the extras, with the lowest versions that these allow
	$(VENV)/lowest/bin/python -m pytest $(SIDE_BY_SIDE) $(OF_EXTRAS)

guests: $(VENV)/guests/programs ## the kernel and the NFS programs for the virtual machines of tests/hosts, from Debian

unit: $(VENV)/.installed-test ## the fast tests only
	$(BIN)/python -m pytest tests/unit

lint: $(VENV)/.installed-lint ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dist: $(VENV)/.installed-dist ## the wheel and the sdist, in dist/, with their checks
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --dist loadfile -m dist tests/dist

bench: $(VENV)/.installed-bench ## the measurements
	$(BIN)/python -m bench

docs: $(VENV)/.installed-test ## write the reference of the command anew
	$(BIN)/cog -r docs/reference/commands.md

site: $(VENV)/.installed-docs ## build the documentation into build/site; a warning is an error
	$(BIN)/python -m sphinx -E -q -W --keep-going -d build/doctrees docs build/site
	@echo "Open build/site/index.html"

clean: ## remove the virtual environment, caches and build output
	$(if $(wildcard $(VENV)/pyvenv.cfg),rm -rf $(VENV))
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests example_app bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# One stamp for each dependency group: installed once, and again when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/.pip-upgraded
	@echo "Installing rollsafe and its $* dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --group $* --editable .
	@touch $@

# The packages of the group test, but those of extras as old as pyproject.toml allows.
$(VENV)/lowest/.installed: $(VENV)/.installed-test tests/support/lowest.py
	@echo "Installing the lowest versions that the extras allow into $(VENV)/lowest"
	@$(BIN)/python -m venv --clear --without-pip $(VENV)/lowest
	@$(BIN)/python -m tests.support.lowest >$(VENV)/lowest/constraints.txt
	@$(BIN)/python -m pip --python $(VENV)/lowest/bin/python install --quiet --constraint $(VENV)/lowest/constraints.txt --group test --editable .
	@touch $@

# The uwsgi of PyPI comes as source, and pip would put it over the program of pyuwsgi: it has an environment of its own.
$(VENV)/uwsgi/bin/uwsgi: | $(VENV)/.pip-upgraded
	@if ! command -v cc >/dev/null; then echo "uwsgi is not built, as there is no C compiler: apt-get install gcc libc6-dev python3-dev"; \
	else echo "Building uwsgi into $(VENV)/uwsgi" && $(BIN)/python -m venv $(VENV)/uwsgi && $(VENV)/uwsgi/bin/python -m pip install --quiet uwsgi; fi

# tests/support/guest_parts.py says what is unpacked there. Nothing is installed, and no root is needed.
$(VENV)/guests/programs: tests/support/guest_parts.py | $(VENV)/.pip-upgraded
	@if ! command -v apt-get >/dev/null || ! $(BIN)/python -m tests.support.guest_parts $(VENV)/guests; \
	then echo "The parts of virtual machines are not unpacked; tests of NFS are skipped. They come from Debian (amd64), by apt-get" >&2; fi

# --group needs pip 25.1; a new virtual environment has whatever pip its Python was released with.
$(VENV)/.pip-upgraded:
	@command -v $(PYTHON) >/dev/null || { echo "PYTHON=$(PYTHON) was not found. Name a Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("rollsafe needs Python 3.10 or newer, PYTHON=$(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@
