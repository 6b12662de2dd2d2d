# Two commands do everything on a fresh Debian machine: `make demo` and `make test`. `make test-fast` is for between two edits.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# A test starts hundreds of processes: what one of them compiled, the others load.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-fast lint clean

setup: $(VENV)/.installed

# Debian packages only where something is missing: a compiler for the virtual board and its network, venv, a broker for the tests.
$(VENV)/.installed: pyproject.toml Makefile
	@missing=""; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="$$missing mosquitto"; \
	[ -e /usr/include/mosquitto.h ] || missing="$$missing libmosquitto-dev"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  echo "setup: installing Debian packages:$$missing"; \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null \
	    || { echo "setup: could not install$$missing; install them and run make again" >&2; exit 1; }; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "setup: the gateway needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) -V); try make PYTHON=python3.11" >&2; exit 1; }
	@echo "setup: creating $(VENV) and installing edgeward (TensorFlow included; a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/edgeward demo --out out/demo

# Five files at a time, also on two cores: much of a test is waiting. `$(BIN)/python -m pytest FILE` runs one by itself.
# Threads of so many processes would only wait for each other.
test test-fast: export OMP_NUM_THREADS = 1
test test-fast: export OPENBLAS_NUM_THREADS = 1
test test-fast: export TF_NUM_INTRAOP_THREADS = 1
test test-fast: export TF_NUM_INTEROP_THREADS = 1
test: setup
	$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

# For the inner loop, under 90 s on two idle cores: without what is marked slow (real federations, simulators, training, attacks).
test-fast: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build out .pio
