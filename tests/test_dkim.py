"""DKIM: what arrives verifies, by dkimpy and OpenDKIM, whatever the message is like and however it went."""

from __future__ import annotations

import base64
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest
from support import corpus, linear, opendkim

import pysmtpx
import pysmtpx.smtplib
from pysmtpx import InputError, MailFromParams, MailObject, RetryPolicy, SmtpPool
from pysmtpx.dkim import Signer
from pysmtpx.extras import MissingExtra
from pysmtpx.testing import MailServer

pytestmark = pytest.mark.slow

DOMAIN = "mail.test"
SENDER, TO = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
NARROW = ("PIPELINING", "CHUNKING", "SMTPUTF8")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="session")
def records(folder: Path) -> dict[str, bytes]:
    return opendkim.make_keys(folder)


@pytest.fixture(scope="session")
def signers(folder: Path, records: dict[str, bytes]) -> list[Signer]:
    return [Signer(DOMAIN, name, key_file=folder / f"{name}.pem") for name in records]


def verifies(octets: bytes, records: dict[str, bytes], count: int = 2) -> None:
    """By dkimpy."""

    def dns(name: bytes, timeout: int = 5) -> bytes:
        return records[name.decode().partition(".")[0]]

    assert octets.count(b"DKIM-Signature:") >= count
    assert [dkim.DKIM(octets).verify(idx=index, dnsfunc=dns) for index in range(count)] == [True] * count


@pytest.fixture
def check(records: dict[str, bytes], tmp_path: Path) -> Callable[[bytes], None]:
    """By both, where both are here; tests/real asks for them."""

    def check(octets: bytes) -> None:
        verifies(octets, records)
        if opendkim.is_here():
            assert opendkim.verdicts(octets, records, DOMAIN, tmp_path) == {"rsa": "pass", "ed": "pass"}

    return check


def email(kind: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = f"Älice <{SENDER}>", f"Bób <{TO}>"
    message["Cc"], message["Bcc"] = f"cid@{DOMAIN}", f"dan@{DOMAIN}"
    message["Subject"] = "Grüße " * 30
    message["List-Unsubscribe"] = "<https://mail.test/leave>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    text = {
        "text": "hello\n",
        "8-bit": "Grüße\n.\n..\n",
        "blanks": "a  b \t c  \n   \n\n\n \t\n\n",
        "long lines": "Grüße, " * 5000 + "\n",
        "empty": "",
        "from": "From here\n>From there\n",
    }.get(kind, "hello\n")
    message.set_content(text)
    if kind == "html":
        message.add_alternative("<p>Grüße</p>", subtype="html")
        message.add_attachment(b"\0\1\r\n\xff" * 999, maintype="application", subtype="x", filename="ä.bin")
    return message


KINDS = ["text", "8-bit", "blanks", "long lines", "empty", "from", "html"]


@pytest.mark.parametrize("name", corpus.ALL)
def test_octets_of_each_shape(signers: list[Signer], check: Callable[[bytes], None], name: str) -> None:
    content = corpus.ALL[name]
    with MailServer() as server, pysmtpx.connect(server.url, before_send=signers) as smtp:
        smtp.send(SENDER, TO, content, allow_long_lines=True)
        smtp.send_bdat(SENDER, TO, io.BytesIO(content), allow_long_lines=True)
    for got in server.messages:
        assert got.content.endswith(corpus.arrives_as(content))
        check(got.content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extensions", [NARROW, (*NARROW, "8BITMIME")])
def test_messages_of_each_kind(
    signers: list[Signer], check: Callable[[bytes], None], kind: str, extensions: tuple[str, ...]
) -> None:
    with MailServer(extensions=extensions) as server:
        with pysmtpx.connect(server.url, before_send=signers) as smtp:
            smtp.send_message(email(kind))
        with SmtpPool(server.url, before_send=signers) as pool:
            pool.send_message(email(kind))
            assert [each.status for each in pool.send_many([email(kind)])] == ["accepted"]
        for got in server.messages:
            assert b"Bcc:" not in got.content
        messages = [got.content for got in server.messages]
    assert len(messages) == 3
    check(messages[0])
    check(messages[1])
    check(messages[2])


def test_an_address_with_utf8(signers: list[Signer], check: Callable[[bytes], None]) -> None:
    message = email("8-bit")
    message.replace_header("To", f"jürgen@{DOMAIN}")
    with MailServer() as server, pysmtpx.connect(server.url, before_send=signers) as smtp:
        smtp.send_message(message)
    (got,) = server.messages
    assert "To: jürgen@".encode() in got.content
    check(got.content)


def test_by_the_smtplib_face_and_lmtp(signers: list[Signer], check: Callable[[bytes], None]) -> None:
    with MailServer() as server, pysmtpx.smtplib.SMTP(server.host, server.port) as smtp:
        smtp.set_outgoing(before_send=signers)
        smtp.send_message(email("8-bit"))
        check(server.messages[0].content)
    with MailServer(protocol="lmtp") as server, pysmtpx.connect(server.url, before_send=signers) as smtp:
        smtp.send_message(email("8-bit"))
    check(server.messages[0].content)


def test_redirected_and_tried_again(signers: list[Signer], check: Callable[[bytes], None]) -> None:
    answers = iter(["451 4.3.0 later", "451 4.3.0 later"])
    retry = RetryPolicy(attempts=5, backoff=0.01, temporary=True)
    with MailServer(verdict=lambda event: next(answers, None) if event.verb == "DATA" else None) as server:
        with SmtpPool(server.url, before_send=signers, redirect_to=f"dev@{DOMAIN}", retry=retry) as pool:
            pool.send_message(email("html"))
        (got,) = server.messages
    assert b"X-Original-Recipients: " in got.content
    check(got.content)


def test_a_change_on_the_way_is_seen(
    signers: list[Signer], records: dict[str, bytes], tmp_path: Path
) -> None:
    """What is oversigned cannot be added to, and what is not may be."""
    mail = MailObject(SENDER, TO, b"")
    signed = signers[0](corpus.HEADER + b"hello\r\n", mail)

    def is_right(octets: bytes) -> bool:
        right = dkim.verify(octets, dnsfunc=lambda name, timeout=5: records["rsa"])
        if opendkim.is_here():
            said = opendkim.verdicts(octets, {"rsa": records["rsa"]}, DOMAIN, tmp_path)
            assert right is (said == {"rsa": "pass"})
        return bool(right)

    assert is_right(signed)
    assert is_right(b"Received: from x\r\n" + signed)
    assert is_right(signed.replace(b"Subject: corpus", b"SUBJECT:  corpus "))
    for name in ("From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID"):
        assert not is_right(f"{name}: x@evil.test\r\n".encode() + signed)
    assert not is_right(signed.replace(b"hello", b"hullo"))
    assert not is_right(signed + b"more\r\n")


def test_what_is_signed(folder: Path, signers: list[Signer]) -> None:
    mail = MailObject(SENDER, TO, b"")

    def names(signer: Signer, octets: bytes) -> list[str]:
        field = signer(octets, mail).partition(b"\r\n\r\n")[0].replace(b"\r\n", b"")
        return field.partition(b" h=")[2].partition(b";")[0].decode().replace(" ", "").split(":")

    usual = names(
        signers[0], b"From: a@mail.test\r\nList-Id: <x>\r\nContent-Type: text/plain\r\nX-A: 1\r\n\r\n"
    )
    assert usual.count("from") == usual.count("content-type") == 2
    assert usual.count("subject") == usual.count("to") == usual.count("list-id") == 1
    assert "x-a" not in usual
    assert "sender" not in usual
    more = Signer(DOMAIN, "rsa", key_file=folder / "rsa.pem", sign=["X-A"], oversign=["List-Id"])
    found = names(more, b"From: a@mail.test\r\nList-Id: <x>\r\nX-A: 1\r\nX-A: 2\r\n\r\n")
    assert (found.count("x-a"), found.count("list-id")) == (2, 2)


def test_a_signature_of_another_is_not_touched(signers: list[Signer], check: Callable[[bytes], None]) -> None:
    """Two signers in either order."""
    for order in (signers, signers[::-1]):
        with MailServer() as server, pysmtpx.connect(server.url, before_send=order) as smtp:
            smtp.send_message(email("text"))
        check(server.messages[0].content)


@pytest.mark.parametrize("form", ["file", "text", "octets", "variable", "escaped", "pkcs1", "seed"])
def test_keys(
    folder: Path, records: dict[str, bytes], form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("rsa", "ed"):
        pem = (folder / f"{name}.pem").read_bytes()
        given: dict[str, Any] = {"key_file": str(folder / f"{name}.pem")}
        if form == "text":
            given = {"key": pem.decode()}
        elif form == "octets":
            given = {"key": pem}
        elif form in ("variable", "escaped"):
            text = pem.decode()
            monkeypatch.setenv("KEY", text.replace("\n", "\\n") if form == "escaped" else text)
            given = {"key_variable": "KEY"}
        elif form == "pkcs1" and name == "rsa":
            command = ["openssl", "rsa", "-in", str(folder / "rsa.pem"), "-traditional"]
            given = {"key": subprocess.run(command, capture_output=True, check=True).stdout}
        elif form == "seed" and name == "ed":
            der = base64.b64decode("".join(pem.decode().splitlines()[1:-1]))
            given = {"key": base64.b64encode(der[-32:]) + b"\n"}
        signer = Signer(DOMAIN, name, **given)
        verifies(signer(corpus.HEADER + b"x\r\n", MailObject(SENDER, TO, b"")), records, 1)


def test_a_signer_shows_no_key(folder: Path) -> None:
    signer = Signer(DOMAIN, "rsa", key_file=folder / "rsa.pem")
    assert repr(signer) == "<Signer rsa._domainkey.mail.test rsa-sha256>"
    server = pysmtpx.Server("localhost", before_send=signer)
    assert "PRIVATE" not in repr(server)
    assert "<Signer rsa" in repr(server)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)


def _short_key() -> bytes:
    command = ["openssl", "genpkey", "-quiet", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:512"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _encrypted_key() -> bytes:
    command = ["openssl", "genpkey", "-quiet", "-algorithm", "ed25519", "-aes-256-cbc", "-pass", "pass:x"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "one of key_file"),
        ({"key": "x", "key_variable": "y"}, "one of key_file"),
        ({"key_file": "/no/such/file"}, "cannot be read"),
        ({"key_variable": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE"),
        ({"key": "c2VjcmV0IHdvcmRz"}, "not a private key"),
        ({"key": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"}, "not a private key"),
        ({"key": Path("x")}, "goes into key_file"),
        ({"key": "dkim-rsa.pem"}, "a path goes into key_file"),
        (
            {"key": "-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n-----END PUBLIC KEY-----\n"},
            "the public one, for DNS",
        ),
        ({"key": _encrypted_key}, "encrypted"),
        ({"key": _short_key}, "512 bits"),
        ({"domain": "a b"}, "domain"),
        ({"selector": "a b"}, "selector"),
        ({"selector": "a;d=evil"}, "selector"),
        ({"sign": "Subject"}, "sign"),
        ({"oversign": ["a:b"]}, "oversign"),
        ({"identity": "@evil.test"}, "identity"),
        ({"identity": f"x@evil{DOMAIN}"}, "identity"),
    ],
)
def test_what_cannot_be_right(folder: Path, options: dict[str, Any], match: str) -> None:
    given = {name: value() if callable(value) else value for name, value in options.items()}
    if options and not any(name.startswith("key") for name in options):
        given["key_file"] = folder / "rsa.pem"
    with pytest.raises(InputError, match=match) as caught:
        Signer(given.pop("domain", DOMAIN), given.pop("selector", "rsa"), **given)
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.__traceback__ is not None
    assert caught.value.__traceback__.tb_next is None or "key" not in str(caught.value.__traceback__.tb_next)


@pytest.mark.parametrize(
    "octets", [b"hello\r\n", b"Subject: x\r\n\r\n", b"\r\nhello\r\n", b"", b" x\r\n\r\n"]
)
def test_what_cannot_be_signed_is_not_sent(signers: list[Signer], octets: bytes) -> None:
    with MailServer() as server, pysmtpx.connect(server.url, before_send=signers) as smtp:
        with pytest.raises(InputError, match="before_send"):
            smtp.send(SENDER, TO, octets)
        with pytest.raises(InputError, match="BINARYMIME"):
            smtp.send_bdat(SENDER, TO, b"From: x\r\n\r\n", MailFromParams(body="BINARYMIME"))
    assert server.messages == []


@pytest.mark.parametrize("pattern", ["| ", "|\t \r\n ", "|\r\n", "|x \r\n"])
def test_any_body_takes_time_in_proportion(signers: list[Signer], pattern: str) -> None:
    mail = MailObject(SENDER, TO, b"")
    linear.check(lambda text: signers[1](corpus.HEADER + text.encode() + b"x\r\n", mail), pattern)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dkim", None)
    with pytest.raises(MissingExtra, match=r"pysmtpx\[dkim\]"):
        Signer(DOMAIN, "x", key="x")
