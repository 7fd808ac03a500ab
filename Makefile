# The first target prints this file's own comments: keep "target: ## what it does" on one line.
PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock $(wildcard migrations/*.sql)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(STAMPS)/extension ## Ingest the two sample files and print their bars
	$(BIN)/python examples/demo.py

.PHONY: test
test: lint rust-test py-test wheel-test ## Everything below that checks: lint, rust-test, py-test, wheel-test

.PHONY: lint
lint: $(STAMPS)/extension ## Formatting, lints and types of Rust and Python
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

.PHONY: rust-test
rust-test: ## Rust tests
	$(CARGO) test --workspace --locked

.PHONY: py-test
py-test: $(STAMPS)/extension ## Python tests, doctests and the README's code
	$(BIN)/pytest

.PHONY: docs-test
docs-test: $(STAMPS)/extension ## Only the doctests and the code of README and docs
	$(BIN)/pytest --doctest-modules python tests/test_docs.py

.PHONY: deep
deep: $(STAMPS)/extension ## Property tests with 5,000 examples each; 20,000 random requests, 100,000 aggregations
	HYPOTHESIS_PROFILE=deep RANDOM_REQUESTS=20000 ROUTED_STATEMENTS=100000 $(BIN)/pytest tests

.PHONY: crash
crash: $(STAMPS)/extension ## Kill, cut off, fill up and damage stores for an hour; CRASH_KILLS=500 and the like do less
	CRASH_PROFILE=long $(BIN)/pytest tests/crash

.PHONY: bench
bench: $(STAMPS)/extension ## Benchmarks, each beside a peer
	$(BIN)/pytest benches --quiet --capture=no

.PHONY: wheel
wheel: $(STAMPS)/tools ## Build the wheel into dist/
	$(BIN)/maturin build --release --locked --out dist

.PHONY: wheel-test
wheel-test: wheel ## Install the wheel into an empty environment outside the repository and use it
	$(BIN)/python tests/wheel_smoke.py dist

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) target dist demo-store python/backtestr/migrations python/backtestr/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMPS)/tools: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3 maturin==1.16.0
	mkdir -p $(STAMPS) && touch $@

# maturin installs the dev group and the extras too, for which a pip of before 25.1 is too old
$(STAMPS)/extension: $(STAMPS)/tools $(RUST_SOURCES)
	. $(BIN)/activate && maturin develop --release --locked --extras pandas,polars,databento
	touch $@
