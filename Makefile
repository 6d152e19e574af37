# `make` lists what there is. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup lock run demo check format test test-fast test-integration test-long bench browser servers node chaos lost-answers mutants

help: ## List these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# torch comes from PyPI, on Linux with CUDA (3 GB). TORCH_SHA256 names a CPU wheel by its hash instead,
# and TORCH_INDEX_URL the index that has it, if pip does not look there anyway.
TORCH_SHA256 ?=
TORCH_INDEX_URL ?=
CPU_LOCK := $(if $(TORCH_SHA256)$(TORCH_INDEX_URL),.venv/cpu.lock)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
setup: $(INSTALLED) ## Install into .venv exactly the files that requirements.lock names by hash
$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(CPU_LOCK),$(BIN)/python docker/select_locked.py --all-extras \
		--torch-sha256 "$(TORCH_SHA256)" --torch-index-url "$(TORCH_INDEX_URL)" >$(CPU_LOCK))
	$(PIP_INSTALL) --require-hashes --requirement $(or $(CPU_LOCK),requirements.lock)
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

# The versions that are in the file stay; `make lock UPGRADE=--upgrade` takes the newest.
UPGRADE ?=
lock: setup ## Resolve requirements.lock anew from pyproject.toml, for every platform
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	| $(BIN)/uv pip compile --quiet --universal --generate-hashes --all-extras --no-emit-index-url \
		--custom-compile-command "make lock" $(UPGRADE) pyproject.toml - --output-file requirements.lock

run: setup ## Serve the page and the REST interface on http://127.0.0.1:8000
	$(BIN)/perfusion serve

demo: setup ## Train two concepts from drawn photos, compose them, write demo/
	$(BIN)/perfusion demo

TSC := tests/integration/clients/typescript/node_modules/.bin/tsc
check: setup ## Style, types, layers; Python, JavaScript and CSS
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/oxlint api/web
	test ! -x $(BIN)/biome || $(BIN)/biome lint --error-on-warnings api/web
	@test -x $(TSC) || echo "The page's types are not checked: make node installs what checks them."
	test ! -x $(TSC) || $(TSC) --project api/web/jsconfig.json

format: setup ## Rewrite to the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# One thread for each process: the tests run several, and threads that wait for each other's cores
# are many times slower than one.
test: setup browser ## The whole suite, on the embedded default
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-fast: setup ## Core and service in under a minute, for the inner loop
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal \
		-m 'not servers and not long and not slow' tests/unit/perfusion_core tests/unit/service

browser: # A Chromium for the page's tests: the system's, else its package, else Playwright's own
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| (test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium) \
	|| $(BIN)/playwright install chromium

# Two processes, each with servers of its own: many of these tests wait, for a lease or a fault. Only
# these folders hold tests of servers; reading the others takes a minute.
CHAOS_SEEDS ?= 1
test-integration: setup servers node ## The same promises on real PostgreSQL, Redis and S3, and under chaos
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		-m 'servers and not long' --chaos-seeds $(CHAOS_SEEDS) \
		$(addprefix tests/,chaos deployment integration security)

test-long: setup servers ## What takes minutes and rarely fails for its own reason; before a release
	OMP_NUM_THREADS=1 $(BIN)/pytest -m long --timeout 900

chaos: setup servers ## Chaos on new random seeds: 6 on PostgreSQL, 3 on SQLite in one process
	$(BIN)/python -m tests.chaos.campaign seeds

lost-answers: setup servers ## Lose 10, 20 and 50 % of the answers to commits; no result may be lost
	$(BIN)/python -m tests.chaos.campaign lost-answers

mutants: setup servers ## Break the product in each way that tests/mutants lists; a test must notice
	$(BIN)/python -m tests.mutants

servers: # PostgreSQL and Redis, from the system's packages; the S3 server is in the `test` extra
	@(command -v redis-server && command -v wget && (command -v initdb || ls /usr/lib/postgresql/*/bin/initdb)) >/dev/null 2>&1 \
	|| (test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql redis-server wget) \
	|| (echo "Install wget, PostgreSQL 15 or newer and Redis 7 or newer, and put initdb and redis-server on PATH." >&2; exit 1)

node: # Node.js, from the system's packages, and what generates TypeScript, as its lock file names it
	@command -v npm >/dev/null \
	|| (test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm) \
	|| (echo "Install Node.js 18 or newer with npm." >&2; exit 1)
	@test tests/integration/clients/typescript/node_modules/.package-lock.json -nt tests/integration/clients/typescript/package-lock.json \
	|| npm ci --silent --no-audit --no-fund --prefix tests/integration/clients/typescript

bench: setup ## Some of the figures of docs/measurements.md
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.concurrency
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.servers.answers
