"""The public names are a contract."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pysmtpx

VALUES = {
    "Capabilities",
    "DeliverBy",
    "EnhancedCode",
    "Event",
    "ForwardPath",
    "MailFromParams",
    "MailObject",
    "Outcome",
    "PoolStats",
    "Protocol",
    "RcptToParams",
    "RejectedRecipient",
    "Reply",
    "RetryPolicy",
    "ReversePath",
    "Route",
    "ServerStats",
    "SaslLogin",
    "Gssapi",
    "SaslMechanism",
    "SendResult",
    "Stage",
}
ERRORS = {
    "AllRecipientsFailed",
    "AuthenticationError",
    "CommandRejected",
    "ConnectError",
    "ConnectionLost",
    "CredentialsUnavailable",
    "DataRejected",
    "DeliveryUnknown",
    "InputError",
    "MechanismUnavailable",
    "MessageTooLarge",
    "NotSupportedError",
    "ProtocolError",
    "ProxyError",
    "RecipientsRejected",
    "RecipientsWithheld",
    "RejectedError",
    "SenderRejected",
    "ServiceUnavailable",
    "SessionLimitReached",
    "SmtpError",
    "Timeout",
    "TlsError",
    "UsageError",
}
DOING = {
    *("MessageOptions", "PoolOptions", "SendOptions", "Server", "ServerOptions", "TransactionOptions"),
    "SmtpConnection",
    "SmtpPool",
    "compose",
    "connect",
}

CONNECTION = {
    "capabilities",
    "close",
    "closed",
    "command",
    "expand",
    "help",
    "is_tls",
    "noop",
    "protocol",
    "quit",
    "rset",
    "send",
    "send_bdat",
    "send_lmtp",
    "send_lmtp_bdat",
    "send_lmtp_with_all_params",
    "send_many",
    "send_message",
    "send_with_all_params",
    "send_with_params",
    "verify",
}


def test_public_names_are_these_and_no_others() -> None:
    assert set(pysmtpx.__all__) - {"__version__"} == VALUES | ERRORS | DOING


def test_each_name_is_listed_once_and_exists() -> None:
    assert len(set(pysmtpx.__all__)) == len(pysmtpx.__all__)
    assert all(hasattr(pysmtpx, name) for name in pysmtpx.__all__)


def test_the_connection_offers_these_methods() -> None:
    public = {name for name in dir(pysmtpx.SmtpConnection) if not name.startswith("_")}
    assert public >= CONNECTION


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_is_an_smtp_error(name: str) -> None:
    assert issubclass(getattr(pysmtpx, name), pysmtpx.SmtpError)


@pytest.mark.parametrize("name", sorted(VALUES | ERRORS | DOING))
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(pysmtpx, name))


def test_the_package_is_typed_and_has_the_version_of_its_metadata() -> None:
    package = Path(pysmtpx.__file__).parent
    metadata = configparser.ConfigParser()
    metadata.read(package.parent / "setup.cfg")
    assert (package / "py.typed").exists()
    assert pysmtpx.__version__ == metadata["metadata"]["version"]


def test_a_name_that_is_not_public_is_refused_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'pysmtpx' has no attribute 'Smtp'"):
        _ = pysmtpx.Smtp  # type: ignore[attr-defined]
    assert set(pysmtpx.__all__) <= set(dir(pysmtpx))


@pytest.mark.parametrize("name", sorted(VALUES | ERRORS | DOING))
def test_a_type_checker_finds_each_name_where_it_is(name: str) -> None:
    package = ast.parse(Path(pysmtpx.__file__).read_text("utf-8"))
    homes = {
        alias.name: f"pysmtpx.{node.module}"
        for node in ast.walk(package)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert getattr(importlib.import_module(homes[name]), name) is getattr(pysmtpx, name)


def test_the_import_loads_no_framework_and_nothing_that_only_sending_needs() -> None:
    loaded = "import sys, pysmtpx; print(*sorted(sys.modules))"
    names = set(subprocess.check_output([sys.executable, "-c", loaded], text=True).split())
    assert not names & {"ssl", "email.message", "django", "flask", "celery", "certifi", "idna"}
    loaded = "import sys; from pysmtpx import *; print(*sorted(sys.modules))"
    names = set(subprocess.check_output([sys.executable, "-c", loaded], text=True).split())
    assert {"ssl", "pysmtpx.pool"} <= names
    assert not names & {"django", "flask", "celery", "smtplib"}
