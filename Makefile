# Everything a developer or CI does. Each target sets up what it needs. A fresh machine has make, and Python 3 or uv.

# The Python of the environments: a path, a name or a version; empty: uv chooses one from 3.11 to 3.14.
PYTHON ?=
# The Python that Lambda runs. `make package` packages with it.
LAMBDA_PYTHON ?= $(shell sed -n 's/^deployed = "\(.*\)"/\1/p' deploy/runtimes.toml)
PORT ?= 8000
export PYTHON PORT
RUNS ?= 10000
SEED ?= 1
TOKENS ?= 10000
# Hundreds of processes that tests start would otherwise each compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHONS := 3.11 3.12 3.13 3.14
STAGES := dev test prod
TEMPLATES := deploy/account.yaml deploy/deployer.yaml deploy/pipeline.yaml $(STAGES:%=out/%/template.yaml)

# What starts the set-up script: any Python 3, or else the Python that uv finds.
ANY_PYTHON := $(shell command -v python3 || command -v python || { command -v uv >/dev/null && echo uv run --no-project --quiet python; })
SETUP = $(or $(ANY_PYTHON),$(error Neither python3 nor uv is on the path. Install one of them)) -I dev/environments.py
UV = $$(test -x .uv/bin/uv && echo .uv/bin/uv || echo uv)
# Starts a command with a tool that one study alone needs: uv fetches it into its cache, not into .venv.
WITH = VIRTUAL_ENV=$(CURDIR)/.venv $(UV) run --quiet --no-project --active --with

.DEFAULT_GOAL := help
.PHONY: help setup run engine test coverage check test-botocore bench-guard lint-deploy lint-splunk lint-openapi model pythons package dist reference vendor demo soak scoreboard interleavings bench load lock clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "Others, see CONTRIBUTING.md: $$(sed -n 's/^\([a-z-]*\):.*#: .*/\1/p' $(MAKEFILE_LIST) | paste -sd ' ')"

setup: ## Create the environments (PYTHON=/path/to/python3.13 selects one)
	@$(SETUP) dev engine uv
	@.venv/bin/python -m deploy.policies

# One simple command: make starts it without a shell in between, and hands it the SIGTERM that make gets.
run: ## Serve on http://127.0.0.1:8000 (PORT=9000 for another port)
	@$(ANY_PYTHON) -I dev/preflight.py
	@$(SETUP) run engine
	@.venv/bin/python -m dev

engine: #: Start the tables of make run alone, for chalice local to serve
	@$(SETUP) run engine
	@.venv/bin/python -m dev engine

# Not reordered: in the order of `testpaths` the shortest files come last, so no processor waits for a long one.
test: setup ## Run all tests
	@.venv/bin/python -m dev.install
	@.venv/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(MEASURED)

coverage: MEASURED := --cov --cov-report=term
coverage: test #: The same, more slowly, with the coverage of chalicelib

check: setup ## Format, lint, types, scans, benchmarks' bars, then the tests: what CI runs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	@$(MAKE) --no-print-directory lint-deploy
	@$(MAKE) --no-print-directory lint-splunk
	@$(MAKE) --no-print-directory lint-openapi
	@$(MAKE) --no-print-directory model
	@$(MAKE) --no-print-directory bench-guard
	@$(MAKE) --no-print-directory test-botocore
	@$(MAKE) --no-print-directory pythons
	@$(MAKE) --no-print-directory test

test-botocore: setup #: The contract and fault suites with botocore in place of our own client
	@.venv/bin/python -m dev.install
	@DYNAMODB_TRANSPORT=botocore .venv/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder tests/contract tests/faults

pythons: setup #: The unit tests on every other Python from 3.11 to 3.14 that this machine has
	@$(SETUP) uv
	@for version in $(PYTHONS); do \
		if .venv/bin/python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')"; then \
			echo "Python $$version: make test runs everything on it"; \
		elif ! $(UV) python find --quiet --no-project --no-python-downloads $$version >/dev/null 2>&1; then \
			echo "!!! NOT TESTED ON PYTHON $$version: this machine does not have it"; \
		else \
			echo "Python $$version:"; \
			$(SETUP) dev@$$version && ".venv-dev-$$version/bin/python" -m pytest --numprocesses auto tests/unit || exit 1; \
		fi; \
	done

REDOCLY := deploy/openapi/node_modules/.package-lock.json
$(REDOCLY): deploy/openapi/package-lock.json
	@cd deploy/openapi && npm ci --loglevel error >/dev/null

reference: setup #: Write the OpenAPI document, and the page out/api.html by Redocly
	@.venv/bin/python -m deploy.reference
	@$(MAKE) --silent --no-print-directory $(REDOCLY)
	@cd deploy/openapi && npm run --silent page -- --output ../../out/api.html

lint-deploy: setup #: Templates, pinned libraries, secrets: cfn-lint, checkov, pip-audit, detect-secrets
	@$(SETUP) scanners
	@for stage in $(STAGES); do AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-eu-central-1} \
		.venv/bin/python -m deploy.package --stage $$stage || exit 1; done
	.venv/bin/cfn-lint --config-file deploy/checks/cfn-lint.yaml -- $(TEMPLATES)
	@.venv/bin/python -m deploy.checks.grants $(TEMPLATES)
	.venv-scanners/bin/checkov --config-file deploy/checks/checkov.yaml -f $(TEMPLATES)
	@.venv/bin/python -m deploy.checks.vulnerabilities requirements.txt requirements/run.txt requirements/dev.txt
	@.venv/bin/python -m deploy.checks.leaked

lint-splunk: #: Check the app in splunk/ with AppInspect and Splunk's data models
	@$(SETUP) dev scanners
	@mkdir -p out
	tar --exclude-vcs -czf out/tokenservice.tgz --transform 's,^splunk,tokenservice,' splunk
	@.venv-scanners/bin/splunk-appinspect inspect out/tokenservice.tgz --mode precert --ci > out/appinspect.log 2>&1 \
		|| { cat out/appinspect.log; exit 1; }
	@sed -n '/Report Summary/,$$p' out/appinspect.log
	@CIM_MODELS=$$(echo .venv-scanners/lib/python*/site-packages/pytest_splunk_addon/data_models) \
		.venv/bin/python -m pytest -q tests/unit/test_splunk_cim.py

lint-openapi: #: Check the OpenAPI document with Redocly
	@if command -v npm >/dev/null && $(MAKE) --silent --no-print-directory $(REDOCLY); then \
		cd deploy/openapi && npm run --silent lint; else \
		echo "!!! OPENAPI NOT LINTED: npm is missing (Debian: nodejs, npm) or did not install Redocly" >&2; \
		test "$$CI" != true; fi

model: #: Check the TLA+ models in spec/ with TLC, and that every seeded design fault is found
	@$(SETUP) dev
	@.venv/bin/python -m spec.check

package: ## Write a stage's SAM template, archive and SBOM: make package STAGE=dev
	@test -n "$(STAGE)" || { \
		echo "STAGE: missing; wanted: a stage of .chalice/config.json, as in 'make package STAGE=dev'" >&2; exit 1; }
	@$(SETUP) dev run@$(LAMBDA_PYTHON)
	@.venv-run-$(LAMBDA_PYTHON)/bin/python -m deploy.package --stage "$(STAGE)"
	@.venv/bin/cfn-lint --config-file deploy/checks/cfn-lint.yaml -- "out/$(STAGE)/template.yaml"

dist: ## Build wheels of tokenctl and of the Python client, and their SBOMs
	@$(SETUP) run uv
	@rm -rf dist build clients/python/build
	@for project in . clients/python; do \
		$(UV) build --quiet --wheel --no-build-isolation --python .venv --out-dir dist $$project || exit 1; \
	done
	@rm -rf build clients/python/build
	@.venv/bin/python -m deploy.sbom dist/*.whl
	@ls dist/*

vendor: setup #: Compiled libraries for 'chalice deploy', in vendor/: faster cold starts
	@AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-eu-central-1} .venv/bin/python -m deploy.vendor

demo: setup ## Serve with a document gateway and a link to click
	@.venv/bin/python -m examples.document_gateway.demo

soak: setup #: Races, the model, faults and hostile input at length; SEED=1 RUNS=10000 TOKENS=10000
	@.venv/bin/python -m dev.install
	@.venv/bin/python -m studies.soak.forwarder_soak --runs $(RUNS) --seed $(SEED)
	@.venv/bin/python -m studies.soak.race_soak --tokens $(TOKENS) --seed $(SEED)
	@.venv/bin/python -m studies.soak.model_soak
	@.venv/bin/python -m spec.check --soak
	@.venv/bin/python -m studies.soak.fuzz --requests 20000 --seed $(SEED)
	@.venv/bin/python -m studies.mutation.soak

scoreboard: setup #: How others count uses, and ours, in races on DynamoDB Local; fills docs/reliability.md
	@.venv/bin/python -m dev.install
	@.venv/bin/python -m studies.rivals --publish

interleavings: setup #: Our threads, in every order that frontrun's scheduler of bytecodes tries
	@$(WITH) frontrun==0.7.0 frontrun python -m studies.interleavings

bench: setup #: Cold starts, calls and memory beside peers, then the log forwarder; fills docs/performance.md
	@.venv/bin/python -m dev.install
	@.venv/bin/python -m studies.bench.lambda_box
	@.venv/bin/python -m studies.bench.forwarder
	@.venv/bin/python -m studies.cost

load: setup #: 40 minutes: rising concurrency, more tokens, more claims; fills docs/load.md; LOAD=--quick
	@.venv/bin/python -m dev.install
	@$(WITH) locust==2.47.0 python -m studies.load $(LOAD)

bench-guard: setup #: Fail if the service is slower or larger than its bars allow
	@.venv/bin/python -m dev.install
	@.venv/bin/python -m studies.bench.guard

# Keeps the versions that are pinned where they still fit; 'make lock UPGRADE=--upgrade' takes the newest.
lock: setup #: Pin the dependency groups of pyproject.toml
	@.venv/bin/python -m dev.lock $(UPGRADE)

clean: ## Remove environments, the local store and all built files
	@$(or $(ANY_PYTHON),python3) -I -c 'import fcntl, os; \
		lock = ".local/lock"; os.path.exists(lock) and fcntl.flock(open(lock), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || { \
		echo "make run still runs from this directory: stop it first" >&2; exit 1; }
	rm -rf dist .uv .venv .venv-* .dynamodb-local .local .chalice/deployments .chalice/policies vendor out build *.egg-info clients/python/build clients/python/*.egg-info __pycache__
	rm -rf deploy/openapi/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find app.py chalicelib tokenctl dev deploy tests studies spec clients examples -name __pycache__ -prune -exec rm -rf {} +
