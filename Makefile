# make setup   the environment in .venv and the system packages it needs
# make test    lint, types and all tests (root: they change running processes)
# make long    the tests that take minutes each: a month of a channel, twenty machines, six servers, the role, lintian, scenarios at -O3 (root)
# make demo    a stock nginx and its security update, under load
# make quarter a channel of Debian 12 over three months, from its suites to machines that fetch
# make fleet   a server with its portal, and two machines that it has bring in a security update (root)
# make six     six stock servers under load, upgraded by hotmend and by apt, reloaded, restarted (root);
#              LIBRARIES=1: with the newest libraries that they map
# make bench   the figures of the issue, from real runs
# make deb     the Debian package, in build/
# make mutants   the servicing rules, each switched off: how many of these mutants the tests notice
# make pairs faults   compiled pairs with one known change each: what is dangerous must be refused (root)

PYTHON ?= python3
BIN := .venv/bin
SYSTEM_STAMP := .cache/system.stamp
PYTHON_STAMP := .venv/hotmend.stamp

.PHONY: setup test long lint types demo quarter fleet six bench deb mutants pairs faults clean

setup: $(SYSTEM_STAMP) $(PYTHON_STAMP)

$(SYSTEM_STAMP): tools/install-system-packages
	@tools/install-system-packages
	@mkdir -p $(@D) && touch $@

$(PYTHON_STAMP): pyproject.toml | $(SYSTEM_STAMP)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "setup: $(PYTHON) is older than 3.11" >&2; exit 1; }
	@echo "setup: making .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Two rooms of tests at a time (tests/rooms.py), the long ones first.
test: setup lint types
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

long: setup
	$(BIN)/python -m pytest -m long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

types: setup
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 src/hotmend/windows src/hotmend/agent/windows

demo: setup
	@$(BIN)/python -m demo.run

quarter: setup
	@$(BIN)/python -m demo.quarter

fleet: setup
	@$(BIN)/python -m demo.fleet

six: setup
	@$(BIN)/python -m demo.six $(if $(LIBRARIES),--libraries)

bench: setup
	@$(BIN)/python -m bench

deb: $(SYSTEM_STAMP)
	@packaging/build-deb build

mutants: setup
	@$(BIN)/python -m pip install --quiet --editable '.[dev,mutants]'
	@rm -rf mutants
	$(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

pairs: setup
	@$(BIN)/python -m pairs

faults: setup
	@$(BIN)/python -m faults

clean:
	rm -rf .venv .cache build mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
