# Two commands: `make book` builds the book, `make test` proves it. `make help` lists the rest.
# Both need only Python >= 3.11, make, and the network on first use.
PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 10
BIN = $(VENV)/bin
PY = $(BIN)/python
WORKERS ?= 2

SHELL = /bin/sh
.DEFAULT_GOAL = help
.NOTPARALLEL:
.PHONY: help book test check times pages test-slow chapter figures sweep compare cluster freshness pdf zip sync new \
	truth lint gpu serve clean lock venv venv-test

# The same text and the same numbers on every machine.
export PYTHONUTF8 = 1
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
# This tree's packages, whatever else may be installed.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

book: venv ## execute what has changed, build the site into _build/html: [PRESET=gpu] [PROFILE=slurm]
	@$(PY) -m pipeline.book --preset '$(PRESET)' --profile '$(PROFILE)'

test: venv-test ## build the book, then check everything: style, library, pages, every chapter
	@failed=; \
	$(MAKE) --no-print-directory book || failed="$$failed book"; \
	$(MAKE) --no-print-directory lint || failed="$$failed lint"; \
	$(PY) -m pytest -q -n $(WORKERS) --truth-report=_build/truth.json || failed="$$failed tests"; \
	$(PY) -m pipeline.checks.nbval_chapters -n $(WORKERS) || failed="$$failed chapters"; \
	test -z "$$failed" || { echo "make test: failed in$$failed"; exit 1; }; \
	echo "make test: book, lint, tests and chapters are in order"

check: venv-test ## prove one chapter alone: style, run, outputs, tests, equations, page: CHAPTER=family/name
	@$(PY) -m pipeline.checks.one_chapter "$(CHAPTER)"

times: venv ## hold each chapter's seconds to what the book allows, by a yardstick of this machine
	@$(PY) -m pipeline.checks.times

pages: venv-test ## measure the built pages in a browser: [PAGE="a.html b.html"] [COMPARE=before.json]
	@$(PY) -m pipeline.checks.pages -n $(WORKERS) $(if $(COMPARE),--compare '$(COMPARE)') $(PAGE)

test-slow: venv-test ## prove what takes long: clusters, faults, other installations, the PDF
	@$(PY) -m pytest -q tests/slow

chapter: venv ## execute one chapter and print its time: CHAPTER=family/name [PARAMS="steps=50"]
	@$(PY) -m pipeline.execute.run_chapter "$(CHAPTER)" --set '$(PARAMS)'

figures: venv ## write figures as SVG and PNG: [CHAPTER=family/name] [PARAMS="steps=50"] [PRESET=gpu]
	@$(PY) -m pipeline.execute.figures $(CHAPTER) --set '$(PARAMS)' --preset '$(PRESET)'

sweep: venv ## run a grid of parameters and seeds: CHAPTER=family/name [GRID=grid.yaml] [PRESET=] [PROFILE=]
	@$(PY) -m pipeline.execute.sweep "$(CHAPTER)" "$(GRID)" --preset '$(PRESET)' --profile '$(PROFILE)'

compare: venv ## gather the table that compares a family, each chapter at three seeds: FAMILY=generative
	@$(PY) -m pipeline.execute.compare "$(FAMILY)"

cluster: venv ## install what PROFILE=slurm and PROFILE=kubernetes need, pinned
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-cluster.txt

freshness: venv ## build the book against the newest releases, name what broke: [KEEP="torch==2.13.0"]
	@$(PY) -m pipeline.checks.freshness --keep '$(KEEP)'

pdf: book venv-test ## print the whole book into _build/forms, and link it from the site: [PRESET=gpu]
	@$(PY) -m pipeline.forms.pdf --preset '$(PRESET)'

zip: venv ## pack the notebooks and what they need to run into _build/forms; `make book` does so too
	@$(PY) -m pipeline.forms.notebooks_zip

sync: venv ## pair each chapter's .md and .ipynb, refresh the outputs that are checked: [CHAPTER=…]
	@$(PY) -m pipeline.checks.pairing sync $(CHAPTER)

new: venv ## begin a chapter, its module and its test: CHAPTER=family/name
	@$(PY) -m pipeline.new_chapter "$(CHAPTER)"

truth: venv-test ## print which equations are verified by which tests
	@$(PY) -m pipeline.checks.equations

lint: venv-test ## ruff, types, the direction of imports, spelling
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@told=$$($(BIN)/lint-imports --no-cache --no-logo 2>&1) || { echo "$$told"; false; }
	@told=$$($(BIN)/mypy 2>&1) || { echo "$$told"; false; }
	@$(BIN)/codespell
	@echo "lint: ruff, types, imports and spelling are in order"

gpu: ## prove and measure on a GPU, with the torch that is there: [PYTHON=python3] [MINUTES=10]
	@$(PYTHON) -m benchmarks.gpu --minutes $(MINUTES)

serve: venv ## read the book at http://127.0.0.1:8000
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean: ## delete what was built; downloads and .venv stay
	@rm -rf _build .snakemake

lock: venv-test ## compile requirements*.txt anew from the ranges of pyproject.toml: [KEEP=1] keeps versions
	@sh pipeline/lock.sh $(BIN)

# Installed when the pins or the package's metadata differ from the last finished installation.
venv:
	@sh pipeline/install.sh "$(PYTHON)" "$(VENV)"

# And what proves the book: peers, linters, a browser's driver.
venv-test:
	@sh pipeline/install.sh "$(PYTHON)" "$(VENV)" test
