# Every target sets up .venv by itself; a machine with Python 3.11 needs nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup train test bench bench-learning lint

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

# RFO on Brax Ant, through the simulator's gradient; ARGS="--seed 1 --updates 500" and the like.
train: $(READY)
	$(BIN)/rpgjax train rfo --env ant --backend spring $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

bench: $(READY)
	$(BIN)/rpgjax bench $(ARGS)

bench-learning: $(READY)
	$(BIN)/python experiments/bench_learning/run.py $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
