# Everything a developer or CI does. Each target sets up what it needs; a fresh machine has Python 3.11, pip and make.

PYTHON ?= $(shell command -v python3.11 || echo python3)
PORT ?= 8000
export PORT
RUNS ?= 10000
SEED ?= 1
TOKENS ?= 10000
# Where somebody forbids it, each of the hundreds of processes that tests start would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

STAGES := dev test prod
TEMPLATES := infra/account.yaml infra/deployer.yaml infra/pipeline.yaml $(STAGES:%=out/%/template.yaml)

UV_LOCK := .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help setup run test coverage check agree guard audit inspect package reference dashboard vendor demo soak bench load lock clean

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Create .venv and .venv-engine, where they are not as the pinned requirements say
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 is needed, the version that AWS Lambda runs for us; '$(PYTHON) --version' says:" \
		"$$($(PYTHON) --version 2>&1 | head -n 1). Name another with 'make PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@$(PYTHON) -I local/install.py

# One simple command: make starts it without a shell in between, and hands it the SIGTERM that make gets.
run: setup ## Serve on http://127.0.0.1:$PORT (8000), storing below .local/
	@.venv/bin/python -m local

test: setup ## Run all tests
	@$(PYTHON) -I local/install.py dynamodb-local browser jdk
	@.venv/bin/python -m pytest --numprocesses auto --dist loadfile $(MEASURED)

coverage: MEASURED := --cov --cov-report=term
coverage: test ## The same, more slowly, with the coverage of chalicelib

# bandit from medium severity on: below it, ruff's S rules say the same and are answered line by line.
check: setup ## Formatting, lint, types, security scans, templates, the Splunk app; then the tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/bandit --quiet --severity-level medium --configfile pyproject.toml --recursive \
		app.py chalicelib tokenctl local infra tokenservice_client examples
	.venv/bin/python -m infra.checks.links
	@$(MAKE) --no-print-directory audit
	@$(MAKE) --no-print-directory inspect
	@$(MAKE) --no-print-directory guard
	@$(MAKE) --no-print-directory agree
	@$(MAKE) --no-print-directory test

agree: setup ## The contract and fault suites with botocore in place of our own client
	@$(PYTHON) -I local/install.py dynamodb-local
	@DYNAMODB_TRANSPORT=botocore .venv/bin/python -m pytest --numprocesses auto --dist loadfile tests/contract tests/faults

dashboard: setup ## Draw docs/images/cloudwatch-dashboard.png from infra/dashboard.json
	@$(PYTHON) -I local/install.py bench
	@.venv-bench/bin/python -m infra.dashboard

reference: setup ## Make docs/openapi.yaml, chalicelib/openapi.json and docs/api.html anew
	@.venv/bin/python -m infra.reference

audit: setup ## Templates, pinned libraries, secrets: cfn-lint, SAM translator, checkov, pip-audit, detect-secrets
	@$(PYTHON) -I local/install.py checks checkov
	@for stage in $(STAGES); do AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-eu-central-1} \
		.venv/bin/python -m infra.package --stage $$stage || exit 1; done
	.venv-checks/bin/cfn-lint --config-file infra/checks/cfn-lint.yaml -- $(TEMPLATES)
	@.venv-checks/bin/python -m infra.checks.transform $(STAGES:%=out/%/template.yaml)
	.venv-checkov/bin/checkov --config-file infra/checks/checkov.yaml -f $(TEMPLATES)
	@.venv-checks/bin/python -m infra.checks.vulnerabilities requirements.txt requirements/dev.txt \
		examples/document_gateway/requirements.txt
	@.venv-checks/bin/python -m infra.checks.leaked

inspect: ## Let Splunk's AppInspect look at the app in splunk/
	@$(PYTHON) -I local/install.py appinspect
	@mkdir -p out
	tar --exclude-vcs -czf out/tokenservice.tgz --transform 's,^splunk,tokenservice,' splunk
	@.venv-appinspect/bin/splunk-appinspect inspect out/tokenservice.tgz --mode precert --ci > out/appinspect.log 2>&1 \
		|| { cat out/appinspect.log; exit 1; }
	@sed -n '/Report Summary/,$$p' out/appinspect.log

package: setup ## A stage's SAM template and archive in out/<stage>/: make package STAGE=dev
	@test -n "$(STAGE)" || { \
		echo "STAGE: missing; wanted: a stage of .chalice/config.json, as in 'make package STAGE=dev'" >&2; exit 1; }
	@.venv/bin/python -m infra.package --stage "$(STAGE)"
	@$(PYTHON) -I local/install.py checks
	@.venv-checks/bin/cfn-lint --config-file infra/checks/cfn-lint.yaml -- "out/$(STAGE)/template.yaml"

vendor: setup ## Compiled libraries for 'chalice deploy', in vendor/: faster cold starts
	@AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-eu-central-1} .venv/bin/python -m infra.vendor

demo: setup ## The service, a stand-in for Alfresco, the document gateway, and a link to click
	@.venv/bin/python -m examples.document_gateway.demo

soak: setup ## Races, the model, faults and hostile input at length; SEED=1 RUNS=10000 TOKENS=10000
	@$(PYTHON) -I local/install.py dynamodb-local
	@.venv/bin/python -m tests.faults.forwarder_soak --runs $(RUNS) --seed $(SEED)
	@.venv/bin/python -m tests.faults.race_soak --tokens $(TOKENS) --seed $(SEED)
	@.venv/bin/python -m tests.faults.model_soak
	@.venv/bin/python -m tests.faults.store_fault_soak --runs 2000 --kills 50 --seed $(SEED)
	@.venv/bin/python -m tests.faults.fuzz --requests 20000 --seed $(SEED)
	@.venv/bin/python -m tests.mutation.soak
	@.venv/bin/python -m tests.faults.soak_summary

bench: setup ## Cold starts, calls and memory beside peers, then the log forwarder; fills docs/performance.md
	@$(PYTHON) -I local/install.py bench dynamodb-local
	@.venv-bench/bin/python -m bench.lambda_box
	@.venv/bin/python -m bench.forwarder
	@.venv-bench/bin/python -m bench.cost_plot

load: setup ## 40 minutes: rising concurrency, more tokens, more claims; fills docs/load.md
	@$(PYTHON) -I local/install.py dynamodb-local load
	@.venv/bin/python -m bench.load

guard: setup ## Say no where the service became slower or larger than it may be
	@$(PYTHON) -I local/install.py bench dynamodb-local
	@.venv-bench/bin/python -m bench.guard

# Keeps the versions that are pinned where they still fit; 'make lock UPGRADE=--upgrade' takes the newest.
lock: setup ## Pin what requirements/*.in ask for
	$(UV_LOCK) $(UPGRADE) requirements/lambda.in -o requirements.txt
	$(UV_LOCK) $(UPGRADE) requirements/dev.in -o requirements/dev.txt
	$(UV_LOCK) $(UPGRADE) requirements/bench.in -o requirements/bench.txt
	$(UV_LOCK) $(UPGRADE) requirements/load.in -o requirements/load.txt
	$(UV_LOCK) $(UPGRADE) requirements/engine.in -o requirements/engine.txt
	$(UV_LOCK) $(UPGRADE) requirements/appinspect.in -o requirements/appinspect.txt
	$(UV_LOCK) $(UPGRADE) requirements/checks.in -o requirements/checks.txt
	$(UV_LOCK) $(UPGRADE) requirements/checkov.in -o requirements/checkov.txt
	$(UV_LOCK) $(UPGRADE) examples/document_gateway/requirements.in -o examples/document_gateway/requirements.txt

clean: ## Remove the environments, the local store and all that was made from the sources
	@$(PYTHON) -I -c 'import fcntl, os; \
		lock = ".local/lock"; os.path.exists(lock) and fcntl.flock(open(lock), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || { \
		echo "make run still runs from this directory: stop it first" >&2; exit 1; }
	rm -rf .venv .venv-engine .venv-appinspect .venv-checks .venv-checkov .venv-bench .venv-load .dynamodb-local .local .chalice/deployments vendor out build *.egg-info tokenservice_client/build tokenservice_client/*.egg-info __pycache__
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find app.py chalicelib tokenctl local infra tests bench tokenservice_client examples -name __pycache__ -prune -exec rm -rf {} +
