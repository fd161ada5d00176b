# Every target sets up what it needs by itself: the first run takes longer, later runs start at once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON := .venv/bin/python
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# BUILD files are Python, but their names do not say so.
BLACK = git ls-files -z -co --exclude-standard '*BUILD' '*.pants' | xargs -0 $(BIN)/black --quiet .

# Options of `make up`.
NODES ?= 3
ONCE ?=
# Models of `make bench-fleet` and `make bench-nodes`, whose nodes are those of NODES as given.
MODELS ?=
# Port of `make docs` on this machine.
PORT ?= 8000
# Arguments for pytest: `make test T=tests/unit/parser` or `make test T="-k resume"`.
T ?=
# Half of their time tests wait for servers and timers, so that two processors have work for three of them. What starts
# clusters is collected first, and the short ones fill the end.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN | awk '{ print ($$1 > 3 ? 4 : $$1 + 1) }')
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Folder of model configurations with answers, for `make accuracy` and `make bench-parser`.
CORPUS ?=

.PHONY: help
help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | column -t -s '|'

.PHONY: venv
venv: ## Make .venv match the locks (every other target does it)
	@tools/bootstrap/venv.sh

.PHONY: programs
programs: venv ## Find or build the programs of the local cluster (the targets that start one do it)
	@$(PYTHON) -m tools.localcluster programs >/dev/null

.PHONY: up
up: venv ## Start a whole cluster on this machine and bring a sample model to Ready (NODES=3, ONCE=1 ends then)
	@$(PYTHON) -m tools.localcluster up --nodes $(NODES) $(if $(ONCE),--once)

.PHONY: broken
broken: venv ## Start a cluster on this machine in which five things are wrong, to find out which
	@$(PYTHON) -m tests.support.broken_clusters

.PHONY: down
down: venv ## Stop a cluster that was started with --detach
	@$(PYTHON) -m tools.localcluster down

.PHONY: test
test: $(if $(T),venv,programs) ## Run all tests (T="pytest arguments")
	@$(PYTHON) -m pytest $(PARALLEL) $(T)

.PHONY: test-unit
test-unit: venv ## Run the tests that start no cluster
	@$(PYTHON) -m pytest $(PARALLEL) tests/unit tests/contract $(T)

.PHONY: e2e
e2e: venv ## Install the charts on real nodes on this machine and try everything there (as root; T="pytest arguments")
	@$(PYTHON) -m tools.node $(PYTHON) -m pytest $(or $(T),tests/e2e)

.PHONY: test-page
test-page: venv ## Use the web page in Chromium, which is fetched from Debian where there is none
	@$(PYTHON) -m tools.browser $(PYTHON) -m pytest -m browser tests/browser $(T)

.PHONY: test-alerts
test-alerts: programs ## Have Prometheus evaluate the alert rules and check the metrics; builds promtool once, for minutes
	@$(PYTHON) -m pytest -m promtool tests/alerts $(T)

.PHONY: lint
lint: venv ## Check style, types, imports, protos and charts
	@$(BIN)/ruff check .
	@$(BLACK) --check || { $(BLACK) --diff; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache
	@cd proto && ../$(BIN)/buf lint
	@git ls-files -z -co --exclude-standard '*.sh' .ci/run pants | xargs -0 -r $(BIN)/shellcheck
	@git ls-files -z -co --exclude-standard '*Dockerfile' | xargs -0 -r $(BIN)/hadolint

.PHONY: audit
audit: programs ## Look for known vulnerabilities, licences, unused rights, unpinned images and keys (ARGS="pins keys" for some)
	@$(PYTHON) -m tools.audit $(ARGS)

.PHONY: format
format: venv ## Rewrite the code as lint wants it
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BLACK)

.PHONY: bench
bench: venv ## Measure an idle cluster: time to Ready, to gone, API requests
	@$(PYTHON) -m tests.bench.cluster

.PHONY: bench-nodes
bench-nodes: venv ## Measure many models on many nodes at once, with real fetchers (NODES=20 MODELS=20)
	@$(PYTHON) -m tests.bench.nodes $(if $(filter command,$(firstword $(origin NODES))),--nodes $(NODES)) \
		$(if $(MODELS),--models $(MODELS)) $(ARGS)

.PHONY: bench-fleet
bench-fleet: venv ## Measure controller and status with a simulated fleet (NODES=1000 MODELS=100, ARGS="--idle-seconds 5")
	@$(PYTHON) -m tests.bench.fleet $(if $(filter command,$(firstword $(origin NODES))),--nodes $(NODES)) \
		$(if $(MODELS),--models $(MODELS)) $(ARGS)

.PHONY: soak
soak: venv ## Have things happen to a simulated fleet at random for half an hour (MINUTES=30, ARGS="--seed 1")
	@$(PYTHON) -m tests.bench.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

.PHONY: bench-page
bench-page: venv ## Measure a frame of the web page's matrix in Chromium (ARGS="--models 100 --nodes 1000")
	@$(PYTHON) -m tools.browser $(PYTHON) -m tests.bench.page $(ARGS)

.PHONY: bench-transfer
bench-transfer: venv ## Measure the transfer engine against huggingface_hub, rclone and aria2c, each verified and not
	@$(PYTHON) -m tests.bench.transfer

.PHONY: bench-memory
bench-memory: venv ## Measure peak memory by a model's size and number of files (D=directory with 100 GiB of room)
	@$(PYTHON) -m tests.bench.memory $(if $(D),--directory $(D))

.PHONY: bench-parser
bench-parser: venv ## Measure the parser: latency and throughput per core
	@$(PYTHON) -m tests.bench.parser $(CORPUS)

.PHONY: accuracy
accuracy: venv ## Compare the parser's facts with a corpus of known answers (CORPUS=folder)
	@$(PYTHON) -m tests.bench.accuracy $(or $(CORPUS),$(error CORPUS=folder is missing))

.PHONY: fuzz
fuzz: venv ## Feed the parser hostile input for minutes
	@$(PYTHON) -m tests.bench.fuzz

.PHONY: protos
protos: venv ## Generate the Python code of proto/ again
	@$(PYTHON) -m tools.bootstrap.protos proto

.PHONY: docs
docs: venv ## Build the site of the documentation and show it on this machine (PORT=8000)
	@$(PYTHON) -m tools.docs serve --port $(PORT)

.PHONY: docs-build
docs-build: venv ## Build the site of the documentation into dist/docs/site
	@$(PYTHON) -m tools.docs build

.PHONY: kustomize
kustomize: venv ## Write deploy/kustomize from the charts again
	@$(PYTHON) -m tools.bootstrap.kustomize deploy/kustomize

.PHONY: locks
locks: venv ## Resolve the requirements again (ARGS=--upgrade)
	@tools/bootstrap/locks.sh $(ARGS)
	@tools/bootstrap/venv.sh

.PHONY: gate
gate: ## Run the Pants gate: formatting, linting, types, visibility rules, and the tests that fit its sandbox
	@./pants --no-pantsd tailor --check update-build-files --check lint check test --output=all ::

.PHONY: package
package: ## Build the executables that the images hold, into dist/
	@./pants --no-pantsd package --filter-target-type=pex_binary ::

.PHONY: images
images: package ## Build the images into dist/images without a container engine (ARGS="--repository registry.example.com/ome")
	@$(PYTHON) -m tools.images build $(ARGS)

.PHONY: image-locks
image-locks: venv ## Pin the newest packages of Debian below the images, and images of others by digest
	@$(PYTHON) -m tools.images lock

.PHONY: clean
clean: ## Remove everything that can be made again, but for the user's own cache of cluster programs
	@rm -rf .venv .venv.lock .pants.d .pids .pants-bootstrap dist .localcluster .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
