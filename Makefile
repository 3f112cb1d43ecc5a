# Recipes are one or two lines; anything longer is a program in tools/ or tests/.
PYTHON ?= python3
VENV   := .venv/bin
SITE   ?= build/site
COMPILE := $(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
SBOM := $(VENV)/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml --mc-type application --of JSON

.PHONY: help dev fix check verify generate docs requirements test test-unit test-matrix test-long demo playground demo-standalone image sbom dist check-dist executable release-dry-run bench bench-gate soak clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

dev: .venv/ready  ## create the virtual environment .venv from pinned requirements

.venv/ready: requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv && $(VENV)/pip install --quiet --require-hashes -r requirements/bootstrap.txt
	$(VENV)/uv pip sync --quiet --compile-bytecode --python $(VENV)/python --require-hashes requirements/bootstrap.txt requirements/dev.txt
	$(VENV)/uv pip install --quiet --python $(VENV)/python --no-deps --editable . && touch $@

fix: dev  ## format and apply safe lint fixes
	$(VENV)/ruff check --fix . && $(VENV)/ruff format .

# Below medium severity, bandit repeats the findings of ruff's S rules, and the code explains each exception.
check: dev  ## check format, lint, types, import contracts and security
	$(VENV)/ruff format --check . && $(VENV)/ruff check .
	$(VENV)/mypy && $(VENV)/lint-imports --no-cache
	$(VENV)/bandit --quiet --recursive --severity-level medium operator && $(VENV)/zizmor --offline --quiet .github

verify: check  ## check, and verify that generated files are up to date
	$(VENV)/python -m keyturn crd | diff -u crds/keyturn.dev_tokenrequests.yaml -
	diff -u crds/keyturn.dev_tokenrequests.yaml charts/keyturn/files/tokenrequests.yaml
	$(VENV)/python -m tools.reference --check
	diff -u docs/operations/troubleshooting.md operator/keyturn/cli/kubectl/troubleshooting.md

generate: dev  ## regenerate the CRD, docs/reference, the tables of docs/exchanges, the text of `explain` and the chart's schema
	$(VENV)/python -m keyturn crd | tee crds/keyturn.dev_tokenrequests.yaml > charts/keyturn/files/tokenrequests.yaml
	$(VENV)/python -m tools.reference
	cp docs/operations/troubleshooting.md operator/keyturn/cli/kubectl/troubleshooting.md

docs: dev  ## build the site of docs/ in build/site (needs npm); SOURCE_URL=https://.../blob/main/ links to the repository
	$(VENV)/uv venv --quiet --allow-existing --python $(VENV)/python build/docs && $(VENV)/uv pip sync --quiet --python build/docs/bin/python --require-hashes requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --strict --site-dir $(SITE)

requirements: dev  ## update the pinned dependencies
	$(COMPILE) --extra operator -o requirements/run.txt pyproject.toml
	$(COMPILE) --extra operator --group dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) --constraint requirements/run.txt -o requirements/sidecar.txt requirements/sidecar.in
	$(COMPILE) -o requirements/go.txt requirements/go.in && $(COMPILE) -o requirements/bootstrap.txt requirements/bootstrap.in
	$(COMPILE) --group docs -o requirements/docs.txt
	$(COMPILE) --constraint requirements/run.txt --group executable -o requirements/executable.txt pyproject.toml

test-unit: dev  ## run the unit tests (less than a minute)
	$(VENV)/pytest -q -n 2 tests/unit -m "not long"

test: verify  ## run all tests, on a Kubernetes control plane built from Go modules
	$(VENV)/python -m tests.support.controlplane build && $(VENV)/python -m tests.support.node build
	$(VENV)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long"

test-matrix: dev  ## run tests on other versions of Python, Kubernetes and Helm; PARTS="python-3.13 helm-3" runs two parts
	$(VENV)/python -m tools.test_matrix $(PARTS)

test-long: dev  ## run the tests that take minutes each
	$(VENV)/pytest -m long

demo: dev  ## run Keyturn against an emulated AWS; ONCE=1 ends by itself, KUBECONFIG_DEMO=path uses your cluster
	$(VENV)/python -m tools.demo

# The checks build the files themselves, so that make test-long includes them.
release-dry-run: dev  ## build everything that a release publishes into build/release, and check it
	$(VENV)/pytest -q tests/release

bench: dev  ## run the benchmarks (25 minutes); ONLY=converge_1000 runs one, ONLY=hundred_thousand takes 40 minutes
	$(VENV)/python -m tools.bench

bench-gate: dev  ## check the counts of requests and calls, and the memory (a minute); part of make test
	$(VENV)/pytest -q tests/e2e/test_request_counts.py

soak: dev  ## run two operators under random faults; MINUTES=15 and SEED=n repeat a run
	$(VENV)/python -m tools.soak

playground: dev  ## start a cluster for docs/getting-started.md
	$(VENV)/python -m tools.playground

demo-standalone: dev  ## run the demo without Kubernetes (15 seconds)
	$(VENV)/python -m tools.demo_standalone

image: dev  ## build the container image without a daemon
	$(VENV)/python -m tools.image

sbom: dev  ## write the SBOMs of the images (CycloneDX) to build/sbom.json and build/sbom-sidecar.json
	mkdir -p build && $(SBOM) -o build/sbom.json requirements/run.txt
	$(SBOM) -o build/sbom-sidecar.json requirements/sidecar.txt

# The build backend comes from .venv, where it is pinned by hash. uv builds the wheel from the source distribution.
dist: dev  ## build the wheel and the source distribution to build/dist
	$(VENV)/uv build --quiet --clear --no-build-isolation --python $(VENV)/python --out-dir build/dist

check-dist: dev  ## build the wheel, install it without extras in a clean environment and test its commands
	$(VENV)/pytest -q tests/integration/test_distribution.py

executable:  ## build the kubectl plugin as one file for this platform, in build/executable/archives
	$(PYTHON) -m tools.executable

clean:  ## remove .venv and build; cached Kubernetes binaries stay
	rm -rf .venv build
