"""The pytest plugin, run as its users run it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import smtplib
import socket

import pytest

@pytest.mark.mail_server(refuse={"bob@y.example": "550 no"})
def test_with_a_mark(mail_server):
    with smtplib.SMTP(mail_server.host, mail_server.port, local_hostname="c.example") as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("ann@x.example", "bob@y.example", "x\\r\\n")

def test_without_a_mark(mail_server):
    assert mail_server.messages == []

def test_with_a_breach(mail_server):
    with socket.create_connection((mail_server.host, mail_server.port)) as sock:
        sock.recv(1000)
        sock.sendall(b"FOO\\r\\n")
        sock.recv(1000)
"""


def test_the_fixture_and_its_mark(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-p", "pysmtpx.testing.plugin", "--strict-markers")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ["*AssertionError: the client broke the protocol:*", "*'FOO' is not a command*"]
    )
