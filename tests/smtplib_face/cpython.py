"""Run CPython's own tests of ``smtplib`` with our module in its place: ``python cpython.py``."""

from __future__ import annotations

import sys
import unittest

import pysmtpx.smtplib as ours


def main() -> int:
    before = sys.modules["smtplib"]
    sys.modules["smtplib"] = ours
    try:
        from test import test_smtplib

        assert test_smtplib.smtplib is ours
    finally:
        sys.modules["smtplib"] = before
    suite = unittest.defaultTestLoader.loadTestsFromModule(test_smtplib)
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    skipped = ", ".join(sorted({reason for _, reason in result.skipped})) or "none"
    print(f"ran {result.testsRun}, skipped {len(result.skipped)} ({skipped})")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    raise SystemExit(main())
