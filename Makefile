# `make demo` and `make test` do all the set-up themselves; they need Python 3.11 or later.
SHELL := /usr/bin/env bash
SETUP := setup.cfg setup.py pyproject.toml scripts/venv

.PHONY: help demo test coverage servers check package docs bench soak clean

help:
	@echo 'make demo      forty kinds of messages checked octet by octet at an embedded server; a killed worker; check, send and sink'
	@echo 'make test      every test, also on real servers, and a sample on each other Python'
	@echo 'make coverage  the same on one Python, and which lines and branches no test reached; half an hour'
	@echo 'make servers   the tests on real servers alone'
	@echo 'make check     linter, formatter, types, and what would be uploaded'
	@echo 'make package   sdist and wheel, the tests that pass from the sdist alone, and each extra alone'
	@echo 'make docs      the site, in build/site'
	@echo 'make bench     speed beside other clients; twenty minutes'
	@echo 'make soak      200,000 messages to a server with faults at random octets'
	@echo 'make clean     removes all that was made'

demo: .venv/.demo
	.venv/bin/python examples/demo.py

test: .venv/.dev .others
	scripts/servers
	scripts/test

coverage: .venv/.dev
	scripts/servers
	.venv/bin/python -m coverage erase
	.venv/bin/python -m coverage run -m pytest
	.venv/bin/python -m coverage report

servers: .venv/.dev
	scripts/servers
	.venv/bin/python -m pytest -m real

check: .venv/.dev
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy --strict pysmtpx
	scripts/package .venv/bin/python

package: .venv/.dev
	scripts/package .venv/bin/python tests
	scripts/extras .venv/bin/python

# Not --quiet: warnings are then not counted, and none of them would fail it. The variable silences an advertisement.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build
	.venv/bin/python scripts/offline build/site

bench: .venv/.bench
	scripts/servers
	scripts/peers
	.venv/bin/python -m benchmarks

soak: .venv/.dev
	.venv/bin/python tests/soak.py

clean:
	rm -rf .venv .venv-3.* .servers *.egg-info build dist .coverage .coverage.* htmlcov
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache benchmarks/.peers
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.%: $(SETUP)
	scripts/venv .venv $*
	touch $@

# The other interpreters: one environment for each minor version that .venv is not of.
.PHONY: .others
.others: .venv/.dev
	@own=$$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	scripts/pythons | while read -r version python; do \
	  case $$version in $$own) continue;; 3.11|3.12|3.13|3.14) ;; *) continue;; esac; \
	  $(MAKE) --no-print-directory .venv-$$version/.test PYTHON_$$version="$$python" || exit 1; \
	done

.venv-%/.test: $(SETUP)
	scripts/venv .venv-$* test "$(PYTHON_$*)"
	touch $@
