# Every target is described by the comment behind it; `make` alone prints them.

PYTHON ?= python3
BIN := .venv/bin
# Tests mostly wait for servers.
WORKERS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 2) + 1)))
ENGINE ?= docker
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Offline tests only: nothing that needs a server.
QUICK := not consul and not nomad and not bao and not envoy

.DEFAULT_GOAL := help
.PHONY: help setup lock proto docs servers check format test test-quick golden bench bench-check bench-page soak fuzz demo demo-nomad image test-containers audit sbom seed clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.ready ## make .venv with gloo-nomad, Envoy and OpenBao in it, from the lock file

$(BIN)/.ready: .ci/requirements.lock pyproject.toml
	@PYTHON='$(PYTHON)' bash .ci/setup

lock: setup ## write .ci/requirements.lock anew from pyproject.toml (UPGRADE=1: newest versions)
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --output-file .ci/requirements.lock $(if $(UPGRADE),--upgrade)
	@$(BIN)/uv pip compile pyproject.toml --quiet --extra image --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --constraint .ci/requirements.lock --output-file .ci/image.lock
	@$(BIN)/uv pip compile --group pyproject.toml:audit --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --output-file .ci/audit.lock $(if $(UPGRADE),--upgrade)

proto: setup ## generate gloo_nomad/api/gen from gloo_nomad/api/proto
	@$(BIN)/python .ci/proto

docs: setup ## write docs/contract.md (every field, and what becomes of it) and the cases of docs/xds.md
	@$(BIN)/python .ci/contract
	@$(BIN)/python -m tests.xds_cases

servers: ## leave .servers/consul and .servers/nomad: the installed ones, or built by Go once
	@bash .ci/servers

check: setup ## formatting, lint, types, layers, generated code and pages, architecture, Nomad jobs
	@bash .ci/check

format: setup ## format the code and apply safe lint fixes
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

test: setup ## set up everything, real servers too, and run all tests
	@bash .ci/servers || echo 'make test: goes on; the tests that need Consul or Nomad will fail' >&2
	@WORKERS='$(WORKERS)' bash .ci/test

test-containers: setup servers ## the image and both Compose deployments in real containers (podman, as root; CONTAINER_ENGINE=docker for Docker)
	@bash .ci/containers

test-quick: setup ## only the tests that need no server
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m '$(QUICK)' --ignore tests/containers tests

golden: setup ## write the expected files of the golden tests anew; the diff is the review
	@$(BIN)/python -m tests.golden.update

bench: setup servers ## run the benchmark suite; CASES="change idle" SIZES="200 1000", BENCH=full for a release
	@$(BIN)/python -m tests.benchmarks

KILLS ?= 100
.PHONY: kills
kills: setup servers ## three replicas, and the leader killed KILLS times (100) under traffic
	@KILLS='$(KILLS)' $(BIN)/python -m pytest -q -s -o timeout=7200 tests/servers/test_replicas.py -k killed_leaders

bench-check: setup servers ## measure again; fails if a ratio is over 10 % worse than in docs/benchmarks.json
	@$(BIN)/python -m tests.benchmarks.check

bench-page: setup ## make the figures of the last `make bench` those of the release: docs/benchmarks.*
	@$(BIN)/python -m tests.benchmarks.page

fuzz: setup ## hostile input for FUZZ_SECONDS=60 in total, led by coverage; FUZZ_TARGET=codec for one target
	@exec $(BIN)/python -m tests.fuzz

soak: setup servers ## load, change, reconnects and faults for SOAK_MINUTES=5; errors or growing memory fail it
	@exec $(BIN)/python -m tests.soak

demo: setup ## the main job from a folder, with Envoy and OpenBao; DEMO_SECONDS=20 stops by itself
	@exec $(BIN)/python -m gloo_nomad.demo folder

demo-nomad: setup servers ## the main job on development agents of Consul, Nomad and OpenBao
	@exec $(BIN)/python -m gloo_nomad.demo cluster

image: ## build the images gloo-nomad and gloo-nomad-envoy; ENGINE=podman for another engine than docker
	@$(ENGINE) build --tag gloo-nomad:$(VERSION) --target gloo-nomad --build-arg VERSION=$(VERSION) .
	@$(ENGINE) build --tag gloo-nomad-envoy:$(VERSION) --target envoy .

audit: ## known vulnerabilities of the locked packages, by pip-audit; code 3 if the advisories cannot be asked
	@PYTHON='$(PYTHON)' bash .ci/audit

sbom: ## dist/sbom.cdx.json: what is in the image, as CycloneDX
	@PYTHON='$(PYTHON)' bash .ci/sbom

seed: setup ## write consul-kv-seed/ to the Consul of CONSUL_HTTP_ADDR
	@$(BIN)/gloo-nomad apply consul-kv-seed/

clean: ## remove what the other targets made inside the checkout
	@rm -rf .venv .audit .servers .demo .fuzz .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
