"""TLS: verified unless a caller says otherwise."""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from support.certs import (
    authority,
    client_context,
    common_name_only,
    demanding_context,
    server_context,
    server_files,
)

import pysmtpx.smtplib as smtplib
from pysmtpx.net import dial
from pysmtpx.testing import Cut, MailServer, Stall

ANN, BOB = "ann@example.org", "bob@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
Trust = Callable[[], None]


def starttls_server(*names: str) -> MailServer:
    return MailServer(ssl_context=server_context(*names), users={"ann": "p"}, strict=False)


def implicit_server(*names: str) -> MailServer:
    return MailServer(ssl_context=server_context(*names), tls="implicit", strict=False)


def test_a_server_that_nobody_vouches_for_is_refused() -> None:
    with starttls_server() as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            smtp.starttls()
        assert smtp.sock is None
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()
    with implicit_server() as server, pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL("127.0.0.1", server.port, "me.example")


def test_a_server_of_another_name_is_refused(trust: Trust) -> None:
    trust()
    with starttls_server("other.test") as server:
        smtp = smtplib.SMTP("localhost", server.port, "me.example")
        with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
            smtp.starttls()
        assert smtp.sock is None


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_name_in_the_subject_alone_counts_for_nothing(
    tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 70: subjectAltName alone counts (RFC 9525 2)."""
    context, roots = common_name_only(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))

    def secure(port: int) -> None:
        if tls == "implicit":
            smtplib.SMTP_SSL("localhost", port, "me.example")
        with smtplib.SMTP("localhost", port, "me.example") as smtp:
            smtp.starttls()

    with (
        MailServer(ssl_context=context, tls=tls, strict=False) as server,  # type: ignore[arg-type]
        pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
    ):
        secure(server.port)


def test_a_server_that_is_vouched_for(trust: Trust) -> None:
    trust()
    with starttls_server() as server, smtplib.SMTP("localhost", server.port, "me.example") as smtp:
        assert smtp.starttls()[0] == 220
        assert (smtp.ehlo_resp, smtp.esmtp_features, smtp.file) == (None, {}, None)
        assert smtp.login("ann", "p")[0] == 235
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        assert isinstance(smtp.sock, ssl.SSLSocket)
        assert smtp.sock.gettimeout() is None
    assert server.messages[0].tls
    with implicit_server() as server, smtplib.SMTP_SSL("localhost", server.port, "me.example") as smtp:
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.messages[0].tls


def test_the_name_is_the_one_that_was_dialled(trust: Trust) -> None:
    trust()
    with starttls_server("localhost") as server:
        with smtplib.SMTP() as smtp:
            smtp.local_hostname = "me.example"
            smtp.connect("localhost", server.port)
            assert smtp.starttls()[0] == 220
        with smtplib.SMTP(f"localhost:{server.port}", local_hostname="me.example") as smtp:
            assert smtp._host == "localhost"
            assert smtp.starttls()[0] == 220


def test_a_user_may_write_the_name(trust: Trust) -> None:
    trust()
    with starttls_server("mail.test") as server:
        with smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
            smtp._host = "mail.test"
            assert smtp.starttls()[0] == 220
        with smtplib.SMTP(local_hostname="me.example") as smtp:
            smtp._host = "mail.test"
            smtp.connect("127.0.0.1", server.port)
            assert smtp.starttls()[0] == 220


def test_a_context_of_the_callers_decides() -> None:
    with starttls_server() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.starttls(context=client_context())[0] == 220
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    with (
        implicit_server() as server,
        smtplib.SMTP_SSL("127.0.0.1", server.port, "me.example", context=lax) as smtp,
    ):
        assert smtp.context is lax
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}


def test_a_context_with_a_will_of_its_own_is_asked_the_usual_way() -> None:
    class Looking(ssl.SSLContext):
        seen: bytes | None = None

        def wrap_socket(self, *arguments: object, **options: object) -> ssl.SSLSocket:
            wrapped = super().wrap_socket(*arguments, **options)  # type: ignore[arg-type]
            Looking.seen = wrapped.getpeercert(binary_form=True)
            return wrapped

    context = Looking(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    with starttls_server() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example", 5) as smtp:
        smtp.starttls(context=context)
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        assert smtp.sock is not None
        assert smtp.sock.gettimeout() == 5
    assert Looking.seen


def test_an_international_name_is_checked_as_a_labels(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    trust()
    with starttls_server("xn--bcher-kva.example") as server:
        found = [(socket.AF_INET, ("127.0.0.1", server.port))]
        monkeypatch.setattr(dial, "_look_up", lambda *_: found)
        with smtplib.SMTP("bücher.example", 25, "me.example") as smtp:
            assert smtp.starttls()[0] == 220


def test_whoever_says_so_gets_tls_without_verification() -> None:
    smtplib.allow_unverified_tls()
    with starttls_server() as server, smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
        assert smtp.starttls()[0] == 220
    smtplib.allow_unverified_tls(False)
    with implicit_server() as server, pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL("127.0.0.1", server.port, "me.example")


def test_who_changes_the_context_of_one_connection_changes_no_other() -> None:
    one, other = smtplib.SMTP_SSL(), smtplib.SMTP_SSL()
    one.context.check_hostname = False
    one.context.verify_mode = ssl.CERT_NONE
    with implicit_server() as server:
        one.local_hostname = "me.example"
        one.connect("127.0.0.1", server.port)
        assert one.sendmail(ANN, BOB, OCTETS) == {}
        one.quit()
        with pytest.raises(ssl.SSLCertVerificationError):
            other.connect("127.0.0.1", server.port)


def test_what_stands_in_clear_behind_starttls_is_not_taken(trust: Trust) -> None:
    trust()
    replies = {"STARTTLS": "220 go\n250-injected\n250 AUTH PLAIN"}
    with MailServer(ssl_context=server_context(), replies=replies, strict=False) as server:
        smtp = smtplib.SMTP("localhost", server.port, "me.example")
        with pytest.raises(smtplib.SMTPServerDisconnected, match="in clear"):
            smtp.starttls()
        assert smtp.sock is None


def test_a_server_without_starttls_or_that_refuses_it() -> None:
    with (
        MailServer() as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
        pytest.raises(smtplib.SMTPNotSupportedError),
    ):
        smtp.starttls()
    replies = {"STARTTLS": "454 4.7.0 not now"}
    with (
        MailServer(extensions=["STARTTLS"], replies=replies) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        with pytest.raises(smtplib.SMTPResponseException) as caught:
            smtp.starttls()
        assert caught.value.smtp_code == 454


@pytest.mark.parametrize("answer", [Stall(), Cut()], ids=["stalls", "hangs up"])
def test_a_handshake_that_does_not_end(answer: object) -> None:
    with (
        MailServer(strict=False, replies={"CONNECT": answer}) as server,  # type: ignore[dict-item]
        pytest.raises((TimeoutError, ssl.SSLError, OSError)),
    ):
        smtplib.SMTP_SSL("127.0.0.1", server.port, "me.example", timeout=0.3)


def test_a_channel_binding_is_used_in_login(trust: Trust) -> None:
    trust()
    seen = []
    with MailServer(
        ssl_context=server_context(),
        users={"ann": "p"},
        verdict=lambda event: seen.append(event.address) if event.verb == "AUTH" else None,  # type: ignore[func-returns-value]
    ) as server:
        with smtplib.SMTP("localhost", server.port, "me.example") as smtp:
            smtp.starttls()
            assert smtp.login("ann", "p")[0] == 235
        with smtplib.SMTP("localhost", server.port, "me.example") as smtp:
            smtp.starttls()
            smtp.ehlo()
            smtp.esmtp_features["auth"] = "SCRAM-SHA-256"
            assert smtp.login("ann", "p")[0] == 235
    assert list(dict.fromkeys(seen)) == ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256"]


if sys.version_info < (3, 12):

    def test_files_of_a_key_and_a_certificate(trust: Trust, tmp_path: Path) -> None:
        trust()
        chain, key = server_files(tmp_path, "client.test")
        with MailServer(ssl_context=demanding_context(), strict=False) as server, warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            with smtplib.SMTP("localhost", server.port, "me.example") as smtp:
                with pytest.raises(DeprecationWarning):
                    smtp.starttls(str(key), str(chain))
                with pytest.raises(ValueError, match="mutually exclusive"):
                    smtp.starttls(str(key), str(chain), client_context())
                warnings.simplefilter("ignore", DeprecationWarning)
                assert smtp.starttls(str(key), str(chain))[0] == 220
                assert smtp.sendmail(ANN, BOB, OCTETS) == {}

    def test_files_of_a_key_and_a_certificate_from_the_first_octet(trust: Trust, tmp_path: Path) -> None:
        trust()
        chain, key = server_files(tmp_path, "client.test")
        with MailServer(ssl_context=demanding_context(), tls="implicit") as server:
            with pytest.warns(DeprecationWarning, match="keyfile and certfile are deprecated"):
                smtp = smtplib.SMTP_SSL("localhost", server.port, "me.example", str(key), str(chain))
            assert (smtp.keyfile, smtp.certfile) == (str(key), str(chain))
            assert smtp.sendmail(ANN, BOB, OCTETS) == {}
            smtp.quit()
        with pytest.warns(DeprecationWarning, match="certfile"), pytest.raises(OSError, match="No such file"):
            smtplib.SMTP_SSL(certfile=str(tmp_path / "none.pem"))
        with pytest.raises(ValueError, match="mutually exclusive"):
            smtplib.SMTP_SSL(certfile=str(chain), context=client_context())


# -- roots, fingerprint, without: as Server has them --------------------------------------


class Own(smtplib.SMTP):
    """What a program sets once for all its connections."""


class OwnSsl(Own, smtplib.SMTP_SSL):
    """The same in TLS from the first octet."""


def fingerprint_of(context: ssl.SSLContext) -> str:
    with MailServer(ssl_context=context, tls="implicit", strict=False) as server:
        pem = ssl.get_server_certificate((server.host, server.port))
    return f"sha256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()}"


def secured(server: MailServer, *, implicit: bool, host: str = "127.0.0.1") -> smtplib.SMTP:
    if implicit:
        return OwnSsl(host, server.port, "me.example")
    smtp = Own(host, server.port, "me.example")
    smtp.starttls()
    return smtp


@pytest.mark.parametrize("implicit", [False, True])
def test_roots_that_a_class_names(implicit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    with implicit_server() if implicit else starttls_server() as server:
        monkeypatch.setattr(Own, "roots", str(tmp_path / "ca.pem"))
        with secured(server, implicit=implicit) as smtp:
            assert smtp.sendmail(ANN, [BOB], OCTETS) == {}
        monkeypatch.setattr(Own, "roots", "certifi")
        with pytest.raises(ssl.SSLCertVerificationError):
            secured(server, implicit=implicit)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_one_certificate_and_no_other(
    tls: Literal["starttls", "implicit"], context: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its fingerprint alone, whoever vouches for it; or beside a context of the caller's."""
    theirs = server_context()
    pinned, another = fingerprint_of(theirs), f"sha256:{'0' * 64}"
    given = client_context() if context else None
    monkeypatch.setattr(Own, "roots", None if context else "fingerprint")

    def connected(port: int) -> smtplib.SMTP:
        if tls == "implicit":
            return OwnSsl("127.0.0.1", port, "me.example", context=given)
        smtp = Own("127.0.0.1", port, "me.example")
        smtp.starttls(context=given)
        return smtp

    with MailServer(ssl_context=theirs, tls=tls, strict=False) as server:
        monkeypatch.setattr(Own, "fingerprint", [another, pinned])
        with connected(server.port) as smtp:
            assert smtp.sendmail(ANN, [BOB], OCTETS) == {}
        monkeypatch.setattr(Own, "fingerprint", another)
        with pytest.raises(ssl.SSLCertVerificationError, match="another one than expected"):
            connected(server.port)
        assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("fingerprint", "abc", "a fingerprint is sha256:"),
        ("fingerprint", [], "fingerprint names nothing"),
        ("roots", "fingerprint", "no fingerprint was given"),
        ("roots", "/nowhere/ca.pem", "/nowhere/ca.pem"),
    ],
)
def test_what_cannot_be_is_told_before_starttls(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setattr(Own, name, value)
    with starttls_server() as server:
        with Own("127.0.0.1", server.port, "me.example") as smtp:
            with pytest.raises(ValueError, match=told):
                smtp.starttls()
            assert smtp.noop()[0] == 250
        with pytest.raises(ValueError, match=told):
            OwnSsl("127.0.0.1", server.port, "me.example")
        assert "STARTTLS" not in [verb for each in server.ledger.connections for verb in each.commands]


@pytest.mark.parametrize("without", ["PIPELINING,chunking", ["pipelining", "CHUNKING"]])
def test_keywords_that_count_as_not_offered(monkeypatch: pytest.MonkeyPatch, without: Any) -> None:
    monkeypatch.setattr(Own, "without", without)
    with MailServer() as server, Own("127.0.0.1", server.port, "me.example") as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("pipelining")
        assert not smtp.has_extn("chunking")
        assert smtp.has_extn("8bitmime")
        assert smtp.sendmail(ANN, [BOB], OCTETS) == {}
        monkeypatch.setattr(Own, "without", "no word")
        with pytest.raises(ValueError, match="no word"):
            smtp.ehlo()
