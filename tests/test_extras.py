"""What an extra brings: imported where it is used, and told where it is missing."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pysmtpx import InputError
from pysmtpx.extras import MissingExtra, needs


def test_what_is_there() -> None:
    assert needs("cli", "email.message").EmailMessage


def test_what_is_missing_says_what_to_install() -> None:
    with pytest.raises(
        MissingExtra, match=r"no_such_package is needed.*pip install 'pysmtpx\[proxy\]'"
    ) as caught:
        needs("proxy", "no_such_package.sync")
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ImportError)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_broken_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        needs("proxy", "half_there")
    assert not isinstance(caught.value, MissingExtra)


def test_no_extra_is_imported_before_it_is_used() -> None:
    optional = (
        "truststore",
        "python_socks",
        "msal",
        "google.auth",
        "gssapi",
        "dkim",
        "opentelemetry",
        "prometheus_client",
    )
    code = f"import sys, pysmtpx.smtplib; pysmtpx.SmtpPool; print(*set({optional}) & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "\n"
