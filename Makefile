# `make demo` and `make test` do all the set-up themselves; they need Python 3.11 or later.
SHELL := /usr/bin/env bash
SETUP := setup.cfg pyproject.toml scripts/venv

.PHONY: demo test servers check bench soak clean

demo: .venv/.demo
	.venv/bin/python examples/demo.py

test: .venv/.dev .others
	scripts/servers
	scripts/test

servers: .venv/.dev
	scripts/servers
	.venv/bin/python -m pytest -m real

check: .venv/.dev
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy --strict pysmtpx

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
