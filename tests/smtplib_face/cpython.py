"""Run CPython's own tests of ``smtplib`` over ours: ``python cpython.py replaced|installed [late_host]``.

``replaced``: our module stands in the place of ``smtplib``; ``installed``: after
``install()``; ``late_host``: over the standard library as Python 3.14.5 has it.
"""

from __future__ import annotations

import importlib
import sys
import unittest
from types import ModuleType

BY_PRIVATE_NAME = {
    # It sets `smtplib._have_cram_md5_support` to False, and expects CRAM-MD5 not to be tried. Ours are the
    # project's own mechanisms: they ask hashlib whether there is MD5, as 3.15's version of the test does.
    "SMTPSimTests.testAUTH_CRAM_MD5_blocked",
}
"""Tests that fail since they patch a private name of the standard library's."""


def tests(mode: str) -> ModuleType:
    import pysmtpx.smtplib as ours

    if mode == "installed":
        ours.install()
        return importlib.import_module("test.test_smtplib")
    before = sys.modules["smtplib"]
    sys.modules["smtplib"] = ours
    try:
        module = importlib.import_module("test.test_smtplib")
        assert module.smtplib is ours
        return module
    finally:
        sys.modules["smtplib"] = before


def name(test: unittest.TestCase) -> str:
    return ".".join(test.id().split(" ")[0].split(".")[-2:])


def main(mode: str, *stand_in: str) -> int:
    if stand_in:
        importlib.import_module(*stand_in)
    suite = unittest.defaultTestLoader.loadTestsFromModule(tests(mode))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = {name(test) for test, _ in result.failures + result.errors}
    skipped = ", ".join(sorted({reason for _, reason in result.skipped})) or "none"
    known = ", ".join(sorted(failed)) or "none"
    print(f"ran {result.testsRun}, skipped {len(result.skipped)} ({skipped}), by private names: {known}")
    return 0 if failed <= BY_PRIVATE_NAME and not result.unexpectedSuccesses else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
