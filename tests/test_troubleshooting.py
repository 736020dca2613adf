"""Each error of docs/troubleshooting.md: its cause leads to it, and the message is where the page says."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import pages
from support.certs import server_context, stranger
from support.daemon import CLOSED_PORT

import pysmtpx
from pysmtpx import errors
from pysmtpx.oauth import Cached
from pysmtpx.testing import Cut, Garbage, MailServer, Stall

PAGE = (pages.DOCS / "troubleshooting.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.S | re.M))
HEADS = ("**Cause:**", "**The message:**", "**Cure:**")

MAIL = ("ann@example.org", ["bea@example.com", "gone@example.com"], b"Subject: x\r\n\r\nhello\r\n")
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
PACKAGE = Path(pysmtpx.__file__).parent
BASES = {"SmtpError", "RejectedError"}

Try = Callable[[str], Any]


def send(*mail: Any, **options: Any) -> Try:
    """Send by a connection of its own."""

    def run(url: str) -> None:
        with pysmtpx.connect(url) as smtp:
            smtp.send(*(mail or MAIL), **options)

    return run


def dial(**options: Any) -> Try:
    """Connect, and nothing else."""
    return lambda url: pysmtpx.connect(url, **options).close()


def deliver_to_nobody(url: str) -> None:
    with pysmtpx.connect(url, allow_recipients=()) as smtp:
        smtp.send(*MAIL)


def verify(url: str) -> None:
    with pysmtpx.connect(url) as smtp:
        smtp.verify("bea@example.com")


def send_by_a_closed_pool(url: str) -> None:
    pool = pysmtpx.SmtpPool(url)
    pool.close()
    pool.send(*MAIL)


def send_with_dsn(url: str) -> None:
    with pysmtpx.connect(url) as smtp:
        smtp.send_with_params(*MAIL, pysmtpx.MailFromParams(ret="HDRS"))


def send_behind_the_last_transaction(url: str) -> None:
    with pysmtpx.connect(url) as smtp:
        smtp.try_envelope(*MAIL[:2])
        smtp.send(*MAIL)


a_provider_that_fails = Cached({}.popitem, 60)
CAUSES: dict[str, list[tuple[dict[str, Any], Try]]] = {
    "InputError": [({}, send("ann@example.org", "bea@example.com, eve@example.com", MAIL[2]))],
    "RecipientsWithheld": [({}, deliver_to_nobody)],
    "MessageTooLarge": [({"extensions": ["SIZE 10"]}, send())],
    "NotSupportedError": [
        ({"extensions": []}, send_with_dsn),
        ({}, dial(username="user", password="password")),
    ],
    "ConnectError": [({"replies": {"CONNECT": "554 5.7.1 not from there"}}, dial())],
    "ProxyError": [({}, dial(proxy=f"socks5://127.0.0.1:{CLOSED_PORT}"))],
    "TlsError": [
        ({}, dial(tls="starttls")),
        ({"ssl_context": server_context("else.example")}, dial(tls="starttls")),
    ],
    "AuthenticationError": [
        ({"users": {"user": "other"}}, dial(username="user", password="password")),
        ({"users": {"user": "other"}, "require_auth": True}, send()),
    ],
    "MechanismUnavailable": [({"users": {"user": "password"}}, dial(username="user", token="token-1"))],
    "CredentialsUnavailable": [
        ({"users": {"user": "password"}}, dial(username="user", password=a_provider_that_fails))
    ],
    "ProtocolError": [({"replies": {"MAIL": Garbage(b"HTTP/1.1 400 Bad Request\r\n")}}, send())],
    "UsageError": [({}, send_by_a_closed_pool)],
    "Timeout": [({"replies": {"DATA": Stall()}}, send(timeout=0.5))],
    "ConnectionLost": [({"replies": {"DATA": Cut()}}, send())],
    "SessionLimitReached": [({"extensions": ["LIMITS MAILMAX=1"]}, send_behind_the_last_transaction)],
    "SenderRejected": [({"replies": {"MAIL": "550 5.7.1 not yours"}}, send())],
    "RecipientsRejected": [({"refuse": pages.REFUSED}, send(all_or_nothing=True))],
    "AllRecipientsFailed": [({"replies": {"RCPT": "550 5.1.1 unknown"}}, send())],
    "DataRejected": [({"replies": {"FINAL": "554 5.7.1 looks like spam"}}, send())],
    "CommandRejected": [({"replies": {"VRFY": "502 5.5.1 not here"}}, verify)],
    "ServiceUnavailable": [({"replies": {"MAIL": "421 4.3.2 going down"}}, send())],
    "DeliveryUnknown": [({"replies": {"FINAL": Cut()}}, send())],
}
"""For each, the servers and calls that the page names as its cause."""


def test_every_error_has_its_section_and_every_section_the_three_answers() -> None:
    """An error's text ends with its name as an anchor: it must be there, and must help."""
    assert CLASSES.keys() <= SECTIONS.keys()
    assert CLASSES.keys() <= set(pysmtpx.__all__)
    assert CAUSES.keys() | BASES == CLASSES.keys()
    for name in SECTIONS:
        assert [SECTIONS[name].count(head) for head in HEADS] == [1, 1, 1], name


def classes() -> dict[str, ast.ClassDef]:
    """Each class of the package, by its name."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def anchors(name: str, known: dict[str, ast.ClassDef]) -> list[str]:
    """The anchors that errors of this class may end with: its own, else those of a base; none for others."""
    if name in CLASSES:
        return [name.lower()]
    if name not in known:
        return []
    own = [node for node in known[name].body if isinstance(node, ast.FunctionDef) and node.name == "anchor"]
    if own:
        return [each.value for each in ast.walk(own[0].body[-1]) if isinstance(each, ast.Constant)]
    bases = [base.id for base in known[name].bases if isinstance(base, ast.Name)]
    return next(filter(None, (anchors(base, known) for base in bases)), [])


def test_errors_of_every_part_of_the_package_lead_to_a_section_that_helps() -> None:
    """Also those that stand elsewhere: of the journal, of an extra, of a framework's face."""
    known = classes()
    found = {name: told for name in known if name not in BASES and (told := anchors(name, known))}
    assert {"UnknownOption", "MissingExtra", "JournalError", "SendFailed", "BadHeaderError"} <= found.keys()
    sections = {name.lower() for name in SECTIONS}
    for name, told in found.items():
        assert len(told) == 1, name
        assert told[0] in sections, name
        assert told[0] not in map(str.lower, BASES), name


@pytest.mark.parametrize(
    ("name", "options", "attempt"), [(name, *each) for name, some in CAUSES.items() for each in some]
)
def test_its_cause_leads_to_it_and_the_message_is_where_the_page_says(
    name: str, options: dict[str, Any], attempt: Try, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    stranger().cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    with MailServer(strict=False, **options) as server, pytest.raises(CLASSES[name]) as caught:
        attempt(server.url)
    error = caught.value
    assert type(error) is CLASSES[name]
    assert str(error).endswith(f"[{name.lower()}]")
    (told,) = re.findall(r"\*\*The message:\*\* (.*?)(?=\n- |\Z)", SECTIONS[name], re.S)
    if "perhaps delivered" in told:
        assert error.unknown_recipients
        assert not error.safe_to_retry
    else:
        assert not error.unknown_recipients
        assert not error.accepted_recipients
        assert server.messages == []
        assert re.search(
            r"nobody has it|nothing was (written|sent)|not sent|none was under way|what the lists say",
            told,
            re.I,
        )
