# Two commands for a fresh checkout; both need only Python 3.11 or later (PYTHON=python3.12 picks another one):
#   make demo   installs into .venv and runs `wmkit quickstart`: collect, train, evaluate, report (about 3 minutes on two cores)
#   make test   installs into .venv and runs what CI runs: ruff, pyright, pytest
# A second call installs nothing, until pyproject.toml or constraints.txt changes. An interrupted install starts over.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
STAMP := .venv/.installed
# True only in .venv itself: a half-made one can fall through to the Python it was made from, which is never to be changed.
IS_VENV := 'import os, pip, sys; sys.exit(sys.prefix == sys.base_prefix or not os.path.samefile(sys.prefix, ".venv"))'

.PHONY: demo test install clean
.DEFAULT_GOAL := demo

demo: install
	.venv/bin/wmkit quickstart

test: install
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV_PYTHON) -m pyright
	$(VENV_PYTHON) -m pytest

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "wmkit needs Python 3.11 or later: make PYTHON=python3.12 ..."; exit 2; }
	@$(VENV_PYTHON) -c $(IS_VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	PIP_REQUIRE_VIRTUALENV=1 $(VENV_PYTHON) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,demo,train,dm-control,ogbench,gpu]'
	@touch $(STAMP)

clean:
	rm -rf .venv build dist wmkit.egg-info
