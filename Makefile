# `make bench` and `make test` set up everything by themselves; `make help` lists the rest.
.PHONY: help setup bench test test-long test-page benchmark bench-peers report docs check gpu-bundle gpu-rehearsal
.DEFAULT_GOAL := help
TWOVIEW := .venv/bin/twoview
PYTEST := .venv/bin/python -m pytest

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## system packages, .venv, pinned Python packages
	@./setup.sh

bench: setup ## the main job: measure, train, evaluate; leaderboard in out/quick
	$(TWOVIEW) suite quick --out out/quick

check: setup ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: setup ## the tests, under 10 minutes on 2 cores
	OMP_NUM_THREADS=1 $(PYTEST) -n logical --maxprocesses 4 --dist worksteal -m 'not long and not alone'
	$(PYTEST) -m 'alone and not long' $$(grep -rl --include='*.py' 'mark.alone' tests)

test-long: setup ## the long tests
	.venv/bin/pip install --quiet --constraint requirements.lock -e '.[fuzz]'
	$(PYTEST) -m long --timeout 3600

test-page: setup ## the page in headless Chromium; screenshots in out/page
	.venv/bin/pip install --quiet --constraint requirements.lock -e '.[page]'
	command -v chromium >/dev/null || $$([ "$$(id -u)" -eq 0 ] || echo sudo) apt-get install -y chromium
	OMP_NUM_THREADS=1 $(PYTEST) tests/reports/test_browser.py

benchmark: setup ## loader and train step timed by pytest-benchmark, compared with the last run
	$(PYTEST) tests/benchmarks --benchmark-enable --benchmark-autosave \
		$(if $(wildcard .benchmarks/*/*.json),--benchmark-compare)

bench-peers: setup ## the same work in other libraries, in turn with twoview; records in out/peers
	.venv/bin/pip install --quiet --constraint requirements.lock -e '.[peers]'
	$(TWOVIEW) measure peers --out out/peers

gpu-bundle: setup ## what `suite gpu` needs on a machine without a network: two folders and their scripts in out/gpu-bundle
	$(TWOVIEW) suite gpu --bundle out/gpu-bundle

gpu-rehearsal: setup ## run that bundle without a GPU, a network and most packages: 7 GB, 15 minutes
	tests/gpu_rehearsal.sh

report: setup ## the pages of the committed evidence, and the tables of README and the docs
	$(TWOVIEW) report reports/results --out out/report
	.venv/bin/python -m twoview.reports.documents

docs: setup ## the documentation as a site in out/docs
	.venv/bin/pip install --quiet --constraint requirements.lock -e '.[docs]'
	.venv/bin/mkdocs build --strict
