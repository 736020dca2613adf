"""S/MIME: what arrives verifies by OpenSSL, with the chain that goes along, and reads as before."""

from __future__ import annotations

import pickle
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest
from support import corpus, linear, opendkim, smime

import pysmtpx
import pysmtpx.dkim
import pysmtpx.smtplib
from pysmtpx import InputError, MailFromParams, MailObject, SmtpPool
from pysmtpx.extras import MissingExtra
from pysmtpx.smime import Signer
from pysmtpx.testing import MailServer

SENDER, TO = "alice@mail.test", "bob@mail.test"
NARROW = ("PIPELINING", "CHUNKING", "SMTPUTF8")
DECLARED = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: 8bit\r\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smime.Authority().write(tmp_path_factory.mktemp("smime"))


@pytest.fixture(params=["rsa", "ec"])
def signer(request: pytest.FixtureRequest, folder: Path) -> Signer:
    return made(folder, request.param)


def made(folder: Path, name: str = "ec") -> Signer:
    return Signer(
        certificate_file=folder / f"{name}-certificate.pem", key_file=str(folder / f"{name}-key.pem")
    )


def plain(content: Any) -> Any:
    """The email package leaves the line ends of text as they came."""
    return content.replace("\r\n", "\n") if isinstance(content, str) else content


def email(kind: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = f"Älice <{SENDER}>", TO, "dan@mail.test"
    message["Subject"] = "Grüße"
    texts = {"8-bit": "Grüße\n.\n", "blanks": "a \n\t\n -- \n", "long": "Grüße, " * 5000 + "\n", "empty": ""}
    message.set_content(texts.get(kind, "hello\n"))
    if kind == "html":
        message.add_alternative("<p>Grüße</p>", subtype="html")
        message.add_attachment(b"\0\1\r\n\xff" * 999, maintype="application", subtype="x", filename="ä.bin")
    return message


@pytest.mark.parametrize("kind", ["text", "8-bit", "blanks", "long", "empty", "html"])
@pytest.mark.parametrize("extensions", [NARROW, (*NARROW, "8BITMIME")])
def test_messages_of_each_kind(signer: Signer, folder: Path, kind: str, extensions: tuple[str, ...]) -> None:
    with MailServer(extensions=extensions) as server:
        with pysmtpx.connect(server.url, before_send=signer) as smtp:
            smtp.send_message(email(kind))
        with SmtpPool(server.url, before_send=signer) as pool:
            pool.send_message(email(kind))
        messages = [got.content for got in server.messages]
    assert len(messages) == 2
    for octets in messages:
        assert octets.isascii()
        assert b"\nBcc:" not in octets
        found = message_from_bytes(octets, policy=policy.default)
        assert found["Subject"] == "Grüße"
        assert found.get_content_type() == "multipart/signed"
        content, signature = found.iter_parts()
        assert signature.get_filename() == "smime.p7s"
        as_it_was = email(kind)
        for given, got in zip(as_it_was.walk(), content.walk(), strict=True):
            assert given.get_content_type() == got.get_content_type()
            if not given.is_multipart():
                assert plain(got.get_content()) == plain(given.get_content())
        for command in ("cms", "smime"):
            assert smime.verified(octets, folder, command) is not None


@pytest.mark.parametrize("name", corpus.SEVEN_BIT)
def test_octets_of_each_shape(folder: Path, name: str) -> None:
    content = corpus.SEVEN_BIT[name]
    with MailServer() as server, pysmtpx.connect(server.url, before_send=made(folder)) as smtp:
        smtp.send(SENDER, TO, content)
        smtp.send_bdat(SENDER, TO, iter([content]))
    for got in server.messages:
        told = smime.verified(got.content, folder)
        assert told is not None
        assert told.endswith(corpus.arrives_as(content).removeprefix(corpus.HEADER))


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_8_bit_octets_become_7_bit(signer: Signer, folder: Path, charset: str) -> None:
    text = "Grüße\r\n.\r\n" * 99
    with MailServer() as server, pysmtpx.connect(server.url, before_send=signer) as smtp:
        smtp.send(
            SENDER, TO, b"From: x@y.test\r\n" + DECLARED % charset.encode() + b"\r\n" + text.encode(charset)
        )
    (got,) = server.messages
    assert got.content.isascii()
    assert smime.verified(got.content, folder) is not None
    content = next(message_from_bytes(got.content, policy=policy.default).iter_parts())
    assert plain(content.get_content()) == plain(text)


def test_a_change_on_the_way_is_seen(signer: Signer, folder: Path) -> None:
    signed = signer(corpus.HEADER + b"hello\r\n", MailObject(SENDER, TO, b""))
    assert smime.verified(signed, folder) is not None
    assert smime.verified(b"Received: from x\r\n" + signed, folder) is not None
    assert smime.verified(signed.replace(b"hello", b"hullo"), folder) is None


def test_the_authority_in_the_middle_goes_along(folder: Path, tmp_path: Path) -> None:
    """Without it nobody would find the way to the root."""
    signed = made(folder)(corpus.HEADER + b"hello\r\n", MailObject(SENDER, TO, b""))
    assert smime.verified(signed, folder) is not None
    whole = (folder / "ec-certificate.pem").read_text()
    first = whole[: whole.index("-----END") + len("-----END CERTIFICATE-----\n")]
    alone = Signer(certificate=first, key_file=folder / "ec-key.pem")
    assert smime.verified(alone(corpus.HEADER + b"hello\r\n", MailObject(SENDER, TO, b"")), folder) is None


def test_dkim_over_it(folder: Path, tmp_path: Path) -> None:
    records = opendkim.make_keys(tmp_path)
    both = [made(folder), pysmtpx.dkim.Signer("mail.test", "rsa", key_file=tmp_path / "rsa.pem")]
    with MailServer() as server, pysmtpx.connect(server.url, before_send=both) as smtp:
        smtp.send_message(email("html"))
    (got,) = server.messages
    assert smime.verified(got.content, folder) is not None
    assert dkim.verify(got.content, dnsfunc=lambda name, timeout=5: records["rsa"])


def test_by_the_smtplib_face(folder: Path) -> None:
    with MailServer() as server, pysmtpx.smtplib.SMTP(server.host, server.port) as smtp:
        smtp.set_outgoing(before_send=made(folder))
        smtp.send_message(email("8-bit"))
    assert smime.verified(server.messages[0].content, folder) is not None


def test_a_key_that_is_encrypted_or_in_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", (folder / "rsa-key.pem").read_text().replace("\n", "\\n"))
    certificate = folder / "rsa-certificate.pem"
    for options in (
        {"key_file": folder / "rsa-locked.pem", "key_password": smime.PASSWORD},
        {"key": (folder / "rsa-key.pem").read_bytes()},
        {"key_variable": "KEY"},
    ):
        signer = Signer(certificate=certificate.read_bytes(), **options)  # type: ignore[arg-type]
        signed = signer(corpus.HEADER + b"hello\r\n", MailObject(SENDER, TO, b""))
        assert smime.verified(signed, folder) is not None


def test_a_signer_shows_no_key(folder: Path) -> None:
    signer = made(folder)
    assert repr(signer) == "<Signer CN=alice@mail.test>"
    assert "<Signer CN" in repr(pysmtpx.Server("localhost", before_send=signer))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "one of certificate_file"),
        ({"certificate_file": "ec-certificate.pem", "certificate": "x"}, "one of certificate_file"),
        ({"certificate_file": "no-such.pem", "key_file": "ec-key.pem"}, "certificate_file cannot be read"),
        ({"certificate_file": "ec-key.pem", "key_file": "ec-key.pem"}, "not one in PEM"),
        ({"certificate_file": "ec-certificate.pem"}, "one of key_file"),
        ({"certificate_file": "ec-certificate.pem", "key_file": "no-such.pem"}, "key_file cannot be read"),
        ({"certificate_file": "ec-certificate.pem", "key_file": "rsa-key.pem"}, "not that of the first"),
        ({"certificate_file": "ec-certificate.pem", "key": "s3cr3t"}, "not one in PEM"),
        ({"certificate_file": "rsa-certificate.pem", "key_file": "rsa-locked.pem"}, "does not open"),
        (
            {
                "certificate_file": "rsa-certificate.pem",
                "key_file": "rsa-locked.pem",
                "key_password": "s3cr3t",
            },
            "does not open",
        ),
        ({"certificate_file": "ec-expired.pem", "key_file": "ec-key.pem"}, "run out"),
    ],
)
def test_what_cannot_be_right(folder: Path, options: dict[str, Any], match: str) -> None:
    given = {name: folder / value if name.endswith("_file") else value for name, value in options.items()}
    with pytest.raises(InputError, match=match) as caught:
        Signer(**given)
    assert "s3cr3t" not in str(caught.value)


def test_what_cannot_be_signed_is_not_sent(folder: Path) -> None:
    with (
        MailServer() as server,
        pysmtpx.connect(server.url, before_send=made(folder)) as smtp,
        pytest.raises(InputError, match="BINARYMIME"),
    ):
        smtp.send_bdat(SENDER, TO, b"From: x\r\n\r\n", MailFromParams(body="BINARYMIME"))
    assert server.messages == []


@pytest.mark.parametrize(
    "octets", [b"\r\nhello\r\n", b"Subject: x\r\n", b"", b"Content-Type: text/html\r\n\r\n<p>\r\n"]
)
def test_bare_content(folder: Path, octets: bytes) -> None:
    signed = made(folder)(octets, MailObject(SENDER, TO, b""))
    assert smime.verified(signed, folder) is not None


@pytest.mark.parametrize("pattern", ["| ", "|\t \r\n ", "|\r\n", "|X: \r\n", "X:|\r\n ", "|Content-A: b\r\n"])
def test_any_message_takes_time_in_proportion(folder: Path, pattern: str) -> None:
    signer, mail = made(folder), MailObject(SENDER, TO, b"")
    linear.check(lambda text: signer(text.encode() + b"\r\n\r\nx\r\n", mail), pattern)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"pysmtpx\[smime\]"):
        Signer(certificate="x", key="x")
