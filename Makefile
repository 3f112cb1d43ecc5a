# Every recipe is a line or two; what needs more is a program under tools/, tests/ or operator/.
PYTHON ?= python3
VENV   := .venv/bin
COMPILE := $(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: help dev fix check verify generate requirements test test-unit test-long demo playground demo-standalone image sbom bench clean

help:  ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

dev: .venv/ready  ## a virtual environment in .venv, from hash-pinned requirements

.venv/ready: requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv && $(VENV)/pip install --quiet --require-hashes -r requirements/bootstrap.txt
	$(VENV)/uv pip sync --quiet --compile-bytecode --python $(VENV)/python --require-hashes requirements/bootstrap.txt requirements/dev.txt
	$(VENV)/uv pip install --quiet --python $(VENV)/python --no-deps --editable . && touch $@

fix: dev  ## format, and mend what can be mended without thinking
	$(VENV)/ruff check --fix . && $(VENV)/ruff format .

# What bandit finds below medium, ruff's S rules find too, and each has its reason in the code.
check: dev  ## format, lint, types, the direction of imports, what is unsafe in code and workflows
	$(VENV)/ruff format --check . && $(VENV)/ruff check .
	$(VENV)/mypy && $(VENV)/lint-imports --no-cache
	$(VENV)/bandit --quiet --recursive --severity-level medium operator && $(VENV)/zizmor --offline --quiet .github

verify: check  ## check, and that what is generated is fresh
	$(VENV)/python -m keyturn crd | diff -u crds/keyturn.dev_tokenrequests.yaml -
	$(VENV)/python -m tools.chart_docs --check
	for page in api metrics; do $(VENV)/python -m tools.reference $$page | diff -u docs/reference/$$page.md - || exit 1; done

generate: dev  ## write the CRD, docs/reference and what the chart tells of its values
	$(VENV)/python -m keyturn crd > crds/keyturn.dev_tokenrequests.yaml
	$(VENV)/python -m tools.chart_docs
	for page in api metrics; do $(VENV)/python -m tools.reference $$page > docs/reference/$$page.md || exit 1; done

requirements: dev  ## pin the dependencies anew
	$(COMPILE) -o requirements/run.txt pyproject.toml && $(COMPILE) --group dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) -o requirements/go.txt requirements/go.in && $(COMPILE) -o requirements/bootstrap.txt requirements/bootstrap.in

test-unit: dev  ## the fast tests, after each edit
	$(VENV)/pytest -q -n 2 tests/unit -m "not long"

test: verify  ## every test, on a real Kubernetes built from Go modules
	$(VENV)/python -m tests.support.controlplane build && $(VENV)/python -m tests.support.node build
	$(VENV)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-long: dev  ## the tests that take minutes each
	$(VENV)/pytest -m long

demo: dev  ## the main job, live: ONCE=1 ends by itself, KUBECONFIG_DEMO=path uses your cluster
	$(VENV)/python -m tools.demo

bench: dev  ## how fast, against the goals: about 20 minutes; ONLY=converge_1000 for a part
	$(VENV)/python -m tools.bench

playground: dev  ## a place to try it in, for docs/getting-started.md
	$(VENV)/python -m tools.playground

demo-standalone: dev  ## the same without Kubernetes, in 15 seconds
	$(VENV)/python -m tools.demo_standalone

image: dev  ## the container image, without a daemon
	$(VENV)/python -m tools.image

sbom: dev  ## what is in the image, as CycloneDX: build/sbom.json
	mkdir -p build && $(VENV)/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
	  --mc-type application --of JSON -o build/sbom.json requirements/run.txt

clean:  ## forget what was built here; the Kubernetes binaries stay cached
	rm -rf .venv build
