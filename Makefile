# Two commands for a newcomer: `make demo` and `make test`. Everything else is for developers.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test fast check bench clean

demo: $(INSTALLED)
	$(BIN)/tasklift run examples/inflection/spec.yaml

# two workers of one thread each: small models gain nothing from a second thread
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

fast: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow and not long"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# ours against transformers, TRL and lm-eval; about an hour. BENCH="--device cuda --dtype bfloat16",
# BENCH="--vllm /path/to/python" (an interpreter that has vLLM), BENCH=--quick
bench: $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m benchmarks.rollout $(BENCH)
	$(BIN)/python -m benchmarks.grpo_step $(BENCH)
	$(BIN)/python -m benchmarks.ppo_step $(BENCH)
	$(BIN)/python -m benchmarks.evaluator $(BENCH)
	$(BIN)/python -m benchmarks.prompt_search $(BENCH)
	$(BIN)/python -m benchmarks.gpu $(BENCH) --only greedy logprobs graph

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tasklift needs Python 3.11 or newer; try: make demo PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv runs
