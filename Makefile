# Carrel without a Nix flake: `make gateway` starts a trial, `make test` runs every check and test.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help gateway test test-long bench vendor lock docs clean userland system-packages

VENV := python/.venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check --no-input --root-user-action=ignore --retries 5 --timeout 60
APT := apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300
# Two processes share the test files; a failed test is run once more, and named at the end: docs/howto/testing.md.
PYTEST := .venv/bin/python -m pytest -c pyproject.toml --rootdir .. -p no:cacheprovider \
  -n 2 --dist loadfile --no-loadscope-reorder --reruns 1 --reruns-delay 5 ../tests
ARGS ?=

help: ## Show what there is to make.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

gateway: $(VENV)/.runtime system-packages userland ## Start the gateway with ./tenants.d (ARGS="--listen 127.0.0.1:9000" to change it).
	@echo "carrel: the command is $(CURDIR)/$(VENV)/bin/carrel"
	@exec $(VENV)/bin/carrel gateway --trial $(ARGS)

test: $(VENV)/.dev system-packages userland ## Run lint, types, import rules and all tests.
	cd python && $(PYTEST) $(ARGS)

test-long: $(VENV)/.dev system-packages userland ## The same, with the long runs of the fault tests.
	cd python && CARREL_TEST_LONG=1 $(PYTEST) $(ARGS)

bench: $(VENV)/.dev system-packages ## Run the benchmarks, side by side with their references.
	cd python && for b in gateway_overhead sandbox_start egress reconcile push idle_workers report ledger terminal channels; do PYTHONPATH=.. .venv/bin/python -m "tests.bench.$$b"; done

docs: $(VENV)/.dev ## Write the generated reference pages anew.
	cd python && PYTHONPATH=.. .venv/bin/python -m tests.house.generate_docs && PYTHONPATH=.. .venv/bin/python -m tests.nixos.options_page

vendor: $(VENV)/.dev ## Fetch anew what pages load of others' (needs npm).
	cd python && PYTHONPATH=.. .venv/bin/python -m tests.house.vendor_pages

lock: ## Resolve the dependencies anew and write both lock files (needs uv).
	cd python && uv pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra build pyproject.toml -o requirements.lock
	cd python && uv pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra build --extra dev --extra traces -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## Remove what make made (not the state directory).
	rm -rf $(VENV) .cache

# --- the virtual environment, from the lock files with their hashes ---

$(VENV)/bin/python:
	@python=$$(for p in python3.13 python3.12 python3.11 python3 python3.14; do \
	  command -v $$p >/dev/null && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done || true); \
	if [ -z "$$python" ]; then \
	  echo "carrel: Python 3.11 or later with its venv module is needed: install python3 and python3-venv (Debian, Ubuntu), python3 (Fedora), python (Arch)." >&2; exit 1; fi; \
	echo "carrel: making $(VENV) with $$($$python --version)"; $$python -m venv $(VENV)

$(VENV)/.runtime: python/requirements.lock python/pyproject.toml | $(VENV)/bin/python
	@test -e $(VENV)/.dev || { echo "carrel: installing the locked dependencies"; \
	  $(PIP) --require-hashes -r python/requirements.lock; }
	@$(PIP) --no-deps --no-build-isolation --no-index -e python
	@$(PY) -m compileall -q python/carrel
	@touch $@

$(VENV)/.dev: python/requirements-dev.lock python/pyproject.toml | $(VENV)/bin/python
	@$(PIP) --require-hashes -r python/requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --no-index -e python
	@$(PY) -m compileall -q python/carrel
	@touch $@ $(VENV)/.runtime

# --- bubblewrap and Nix, through the system's package manager where it may ---

system-packages:
	@missing=; command -v bwrap >/dev/null || missing="$$missing bubblewrap"; command -v nix-build >/dev/null || missing="$$missing nix-bin"; \
	[ -z "$$missing" ] && exit 0; \
	as_root=; if [ "$$(id -u)" != 0 ]; then if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root=no; fi; fi; \
	if [ "$$as_root" != no ] && command -v apt-get >/dev/null; then \
	  echo "carrel: installing$$missing with apt-get"; \
	  { $$as_root $(APT) update && DEBIAN_FRONTEND=noninteractive $$as_root $(APT) install -y --no-install-recommends $$missing; } >/dev/null 2>&1 || true; \
	elif [ "$$as_root" != no ] && command -v dnf >/dev/null; then $$as_root dnf install -y -q $${missing/nix-bin/nix} >/dev/null 2>&1 || true; \
	elif [ "$$as_root" != no ] && command -v pacman >/dev/null; then $$as_root pacman -S --noconfirm --needed $${missing/nix-bin/nix} >/dev/null 2>&1 || true; fi; \
	command -v bwrap >/dev/null || echo "carrel: bubblewrap is missing, so no tool can run: install the package 'bubblewrap' (apt, dnf, pacman, zypper) and start again." >&2; \
	command -v nix-build >/dev/null || echo "carrel: Nix is missing, so tools use the host's /usr: install 'nix-bin' (Debian, Ubuntu) or Nix from nixos.org for closures." >&2

# Who starts a trial without a network is not kept waiting; a test run without packages would test less.
test test-long: PATIENT := --patient
userland: $(VENV)/.runtime
	@$(PY) tests/packageset/fetch.py $(PATIENT) || echo "carrel: the test package set is not at hand, so tools use the host's /usr for now." >&2
