.DEFAULT_GOAL := help
PYTHON ?= python3
SCENARIO ?= default
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1 \2/p' Makefile | awk '{printf "%-16s", $$1 " " $$2; $$1 = $$2 = ""; print}'

setup: ## Install system packages for the lab and the pinned tools in .venv
	@$(PYTHON) tools/setup.py

demo: ## Deploy the sample project on a lab host: http://127.0.0.1:8080/ (DEMO_PORT=8080, DEMO_HTTPS_PORT=8443)
	@since=$$(date +%s.%N) && $(PYTHON) tools/setup.py && .venv/bin/python tools/demo.py --since $$since

test: ## Everything: lint, unit, every molecule scenario, two at a time (LANES=1; FROM=fleet continues from there; LAB_IMAGE=name)
	@since=$$(date +%s.%N) && $(PYTHON) tools/setup.py --tests && .venv/bin/python tools/test.py --since $$since $(if $(LANES),--lanes $(LANES)) $(if $(FROM),--from $(FROM)) all

lint: checks ## ansible-lint (production profile; only what has changed since it passed), yamllint, ruff
	@:

unit: checks ## Tests that need no host
	@:

# One run for lint and unit, so that they share the cores.
checks:
	@since=$$(date +%s.%N) && $(PYTHON) tools/setup.py --tests && .venv/bin/python tools/test.py --since $$since $(or $(filter lint unit,$(MAKECMDGOALS)),lint unit)

molecule: ## One scenario: make molecule SCENARIO=default
	@since=$$(date +%s.%N) && $(PYTHON) tools/setup.py --tests && .venv/bin/python tools/test.py --since $$since molecule/$(SCENARIO)

bench: ## Compare servers on one project, side by side, on the lab host of make demo (ROUNDS=15, REQUESTS=300)
	@$(PYTHON) tools/setup.py && .venv/bin/python bench/compare.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(REQUESTS),--requests $(REQUESTS))

scale: ## 2,000 WebSockets and 200 requests a second at once, on the lab host of make demo (OPTIONS=--help lists more)
	@$(PYTHON) tools/setup.py && .venv/bin/python bench/scale.py $(OPTIONS)

requirements: ## Update the pins in requirements.txt from requirements.in
	@$(PYTHON) tools/setup.py && UV_SYSTEM_CERTS=true uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements' requirements.in --output-file requirements.txt

docs: ## Write the tables of variables into the roles' README files
	@$(PYTHON) tools/setup.py && .venv/bin/python tools/document.py

clean: ## Remove everything that the other targets created except system packages
	@$(PYTHON) tools/clean.py

.PHONY: help setup demo test lint unit checks molecule bench scale requirements docs clean
