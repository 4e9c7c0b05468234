# Two commands to begin with: `make up` and `make test`.

PYTHON ?= python3
RUN := .venv/bin/python
STACK ?= local

.DEFAULT_GOAL := help
SOAK ?= 10
.PHONY: help up down status preview env tools test-tools test lint soak bench-partitioning bench-workers environment

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

environment:
	@$(PYTHON) tools/bootstrap.py

tools: environment ## Obtain what the project needs: Python packages, pulumi, prometheus, alertmanager
	@$(RUN) -m tools

test-tools: environment ## Obtain also what only the tests run: a Kubernetes control plane
	@$(RUN) -m tools --tests

up: tools ## Bring the stack up, or up to date (STACK=local)
	@$(RUN) -m stacks up --stack $(STACK)

preview: tools ## Show what `make up` would change
	@$(RUN) -m stacks preview --stack $(STACK)

status: tools ## Show what runs where
	@$(RUN) -m stacks status --stack $(STACK)

env: ## Print the stack's addresses as shell exports: eval "$$(make -s env)"
	@$(MAKE) -s tools 1>&2
	@$(RUN) -m stacks env --stack $(STACK)

down: tools ## Stop everything; data stays unless local:keepData is false
	@$(RUN) -m stacks down --stack $(STACK)

lint: environment ## Check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m pyright

# Tests wait more than they compute: two files at a time, each process with its own servers.
test: test-tools lint ## Check everything: style, types, fast tests, slow tests
	@$(RUN) -m pytest -m "not slow" -n 2 --dist loadfile
	@$(RUN) -m pytest -m slow -n 2 --dist loadfile -v

soak: test-tools ## The slow tests with larger counts (SOAK=10)
	@SOAK=$(SOAK) $(RUN) -m pytest -m slow -o timeout=3600

bench-partitioning: tools ## Measure the partitioning against its peers; results in bench/README.md
	@$(RUN) -m bench.partitioning

bench-workers: tools ## Measure the workers against their peers; results in bench/README.md
	@$(RUN) -m bench.workers
