# How people work on ModelCanary. `make demo` and `make test` set up all they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The sidecar's live process, compiled from Rust. What was compiled before is in the cache, and so is cargo's folder.
LIVE := sidecar/modelcanary_sidecar/bin/modelcanary-live
CRATE := sidecar/live
READY := $(STAMP) $(LIVE)
# Where rustup puts cargo, for shells that do not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# What is built once and kept outside of the tree: environments of model servers.
export MODELCANARY_CACHE ?= $(HOME)/.cache/modelcanary

.PHONY: help install check lint types live-test layers crds images locks packages apiserver test cluster-test cluster-up cluster-down e2e demo demo-servers bench-dataplane bench-dataplane-paired fuzz bench-decode bench-drain bench-gates bench-late bench-ledger bench-ledger-postgres bench-recompute bench-replay bench-workers soak clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

install: $(READY) ## an environment in .venv with the project (editable) and its tools

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[cli,operator]' --group dev
	@touch $@

$(LIVE): $(STAMP) hatch_build.py $(CRATE)/Cargo.toml $(CRATE)/Cargo.lock $(shell find $(CRATE)/src -name '*.rs')
	@$(BIN)/python hatch_build.py

check: lint types layers ## ruff, mypy strict, rustfmt, clippy, and the layers point one way

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null || \
	  { echo "the crate is linted with rustfmt and clippy; install them: rustup component add rustfmt clippy" >&2; exit 1; }
	cd $(CRATE) && cargo fmt --check && cd fuzz && cargo fmt --check
	cd $(CRATE) && CARGO_TARGET_DIR=$(MODELCANARY_CACHE)/live/target cargo clippy --quiet --locked --all-targets -- -D warnings
	cd $(CRATE)/fuzz && CARGO_TARGET_DIR=$(MODELCANARY_CACHE)/live/fuzz cargo clippy --quiet --locked -- -D warnings

types: $(STAMP)
	$(BIN)/mypy hatch_build.py gate sidecar ledger operator cli demo tests/crds tests/cluster tests/e2e images tests/images tests/chart

live-test: ## the live process's parts that are pure; all else of it is tested by pytest
	cd $(CRATE) && CARGO_TARGET_DIR=$(MODELCANARY_CACHE)/live/target cargo test --quiet --locked

layers: $(STAMP)
	$(BIN)/pytest -q tests/layers

crds: $(STAMP) ## the resource's definition, the parser and the chart's copy agree: each field, default and limit
	$(BIN)/python -m pytest -q -m 'not cluster' tests/crds

demo: $(READY) ## real models on real servers: a bad candidate is rolled back, a good one promoted; needs no cluster
	$(BIN)/python -m demo demo-out

bench-replay: $(STAMP) ## how long replay takes for 300 runs of 20,000 pairs, in one call
	$(BIN)/python -m bench.replay

bench-recompute: $(STAMP) ## how long recompute takes for 5,000,000 pairs and their labels, and how much memory
	$(BIN)/python -m bench.recompute

demo-servers: $(READY) ## the demo's two model servers alone, to try `modelcanary run` on by hand
	$(BIN)/python -m demo.serve

bench-ledger: $(STAMP) ## how many pairs and labels one ledger takes, over two minutes
	$(BIN)/python -m bench.ledger

bench-ledger-postgres: $(STAMP) ## the same over a PostgreSQL of its own, with one ledger and with two
	$(BIN)/python -m bench.ledger --postgres

.PHONY: bench-operator
bench-operator: $(STAMP) ## what the operator needs for 100 adopted canaries while nothing happens: ten minutes
	$(BIN)/python -m bench.operator

images: $(STAMP) ## container images of operator, ledger and sidecar, as archives in the cache (docker, podman, or buildah as root)
	@$(BIN)/python -m images build

locks: $(STAMP) ## what goes into the images, by version and hash: adds what is new; UPGRADE=--upgrade renews all
	@for part in operator:operator,cli ledger:ledger sidecar:sidecar; do \
	  $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate $$(echo $${part#*:} | tr , '\n' | sed 's/^/--extra /') pyproject.toml -o images/locks/$${part%%:*}.txt; done

# A real API server, for the tests of the resource: compiled once (4 minutes on two free cores), kept in the cache.
apiserver: $(STAMP)
	@$(BIN)/python -m tests.cluster build --api-only >/dev/null

packages:
	@tests/packages.sh

test: $(READY) check packages apiserver live-test ## everything that runs without a cluster
	$(BIN)/pytest -q -n 2 --dist loadfile -m 'not node' tests

cluster-up: $(STAMP) ## a real Kubernetes node of the project's own (root), or kind; prints how to reach it
	$(BIN)/python -m tests.cluster up

cluster-test: $(READY) ## a whole node comes up, runs pods and leaves nothing (root)
	$(BIN)/python -m pytest -q -m node tests/cluster tests/operator tests/images tests/chart

e2e: $(READY) ## deploys on a real cluster, with users whose every answer is checked; SCENARIOS="bad steps" for some
	$(BIN)/python -m tests.e2e $(SCENARIOS)

cluster-down: $(STAMP) ## ends what cluster-up started
	$(BIN)/python -m tests.cluster down

bench-dataplane: $(READY) ## the sidecar against nginx, HAProxy, Envoy and Go, in half an hour; QUICK=1: the goals only, in 7 minutes
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python -m bench.dataplane $(if $(QUICK),--quick)

bench-dataplane-paired: $(READY) ## what users feel of a failing shadow, against no mirror at all: 16 rounds in 13 minutes
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python -m bench.dataplane --paired

bench-workers: $(READY) ## whether more workers of one sidecar serve more, each on a part of a core (root)
	$(BIN)/python -m bench.dataplane.workers

soak: $(READY) ## an hour's worth of requests in 20 minutes: memory stays
	$(BIN)/python -m bench.dataplane.soak

bench-drain: $(READY) ## 200 restarts of sidecars under 500 requests/s: no answer and no pair is lost
	$(BIN)/python -m bench.drain

fuzz: RUNS ?= 100000
fuzz: SEED ?= 1
fuzz: $(READY) ## the sidecar's parsing (libFuzzer, needs g++) and decoding, RUNS=100000 inputs to each of four targets, from SEED=1
	@for target in requests answers decoded understood; do \
	  echo "$$target:"; $(BIN)/python -m tests.sidecar.fuzzing $$target --runs $(RUNS) --seed $(SEED) || exit 1; done

bench-late: $(STAMP) ## labels of one class that come late: what the gate makes of them, 100 runs of each kind; half an hour
	$(BIN)/python -m bench.late_labels

bench-gates: $(STAMP) ## simulates the gate and rival rules: half an hour, writes bench/RESULTS.md
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python -m bench.gates

bench-decode: $(READY) ## what it costs to read an answer, by server: half a minute
	$(BIN)/python -m bench.decode

clean: ## removes the environment; the cache outside of the tree stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
