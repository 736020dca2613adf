"""Which authorities are trusted (``roots``), and which certificate or key it must be (``fingerprint``)."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support import certs
from support.fates import attempt, send
from support.transports import resolve_all

from pysmtpx import InputError, SendResult, Server, SmtpConnection, SmtpPool, TlsError, connect
from pysmtpx.checking import check
from pysmtpx.net.tls import context_for
from pysmtpx.testing import MailServer

pytestmark = pytest.mark.everywhere

MODES = pytest.mark.parametrize("tls", ["implicit", "starttls"])


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


class Shown:
    """A server's certificate and what is known of it."""

    def __init__(self, *names: str, folder: Path, ca: Any = None) -> None:
        issued = (ca or certs.authority()).issue_cert(*(names or ("mail.test",)))
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(self.context)
        self.file = folder / "shown.pem"
        issued.cert_chain_pems[0].write_to_path(self.file)
        certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        self.sha256 = certificate.fingerprint(hashes.SHA256()).hex()
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(key)
        self.spki = digest.finalize()


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(folder=tmp_path)


@pytest.fixture
def authority(tmp_path: Path) -> str:
    certs.authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    return str(tmp_path / "authority.pem")


def reach(shown: Shown, tls: str, monkeypatch: Any, **options: Any) -> Any:
    """A message sent to a server that shows it, or the error of connect(), before which nothing was said."""
    resolve_all(monkeypatch)
    users: dict[str, Any] = {"users": {"ann": "pw"}, "strict": False}
    with MailServer(ssl_context=shown.context, tls=tls, **users) as server:  # type: ignore[arg-type]
        account: dict[str, Any] = {"username": "ann", "password": "pw", "tls": tls}
        conn = attempt(connect, "mail.test", server.port, **account, **options)
        if isinstance(conn, SmtpConnection):
            with conn:
                return send(conn)
        assert [c for c in server.ledger.commands if "MAIL" in c or "AUTH" in c] == []
        return conn


# -- roots -------------------------------------------------------------------------------


@MODES
def test_roots_from_a_file(tls: str, shown: Shown, authority: str, monkeypatch: Any) -> None:
    """In place of what the environment names."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/roots.pem")
    assert isinstance(reach(shown, tls, monkeypatch, roots=authority), SendResult)
    assert isinstance(reach(shown, tls, monkeypatch, roots=Path(authority)), SendResult)


def test_roots_from_a_directory(shown: Shown, authority: str, tmp_path: Path, monkeypatch: Any) -> None:
    name = subprocess.check_output(["openssl", "x509", "-hash", "-noout", "-in", authority], text=True)
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / f"{name.strip()}.0").write_bytes(Path(authority).read_bytes())
    assert isinstance(reach(shown, "implicit", monkeypatch, roots=str(tmp_path / "roots")), SendResult)
    (tmp_path / "none").mkdir()
    assert isinstance(reach(shown, "implicit", monkeypatch, roots=str(tmp_path / "none")), TlsError)


@MODES
def test_the_roots_of_the_operating_system(tls: str, shown: Shown, authority: str, monkeypatch: Any) -> None:
    """By truststore, which asks OpenSSL here; that reads SSL_CERT_FILE as the system's own tools do."""
    error = reach(shown, tls, monkeypatch, roots="system")
    assert isinstance(error, TlsError)
    assert error.roots == "the roots of the operating system"
    assert "the roots of the operating system" in str(error)
    monkeypatch.setenv("SSL_CERT_FILE", authority)
    assert isinstance(reach(shown, tls, monkeypatch, roots="system"), SendResult)
    other = Server("mail.test", tls=tls, roots="system", server_hostname="other.test")  # type: ignore[arg-type]
    assert isinstance(
        reach(shown, tls, monkeypatch, roots="system", server_hostname=other.server_hostname), TlsError
    )


def test_certifi_is_certifi_whatever_the_environment_says(
    shown: Shown, authority: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority)
    assert isinstance(reach(shown, "implicit", monkeypatch), SendResult)
    error = reach(shown, "implicit", monkeypatch, roots="certifi")
    assert isinstance(error, TlsError)
    assert error.roots.startswith("certifi's roots (")


def test_a_missing_extra_says_what_to_install() -> None:
    code = """
import sys
sys.modules["truststore"] = None
import pysmtpx
from pysmtpx.testing import MailServer
with MailServer() as server:
    try:
        pysmtpx.connect(server.host, server.port, tls="implicit", roots="system")
    except pysmtpx.InputError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert "pip install 'pysmtpx[truststore]'" in told


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n"])
def test_a_file_without_roots(content: bytes | None, tmp_path: Path, shown: Shown, monkeypatch: Any) -> None:
    if content is not None:
        (tmp_path / "roots.pem").write_bytes(content)
    error = reach(shown, "implicit", monkeypatch, roots=str(tmp_path / "roots.pem"))
    assert type(error) is InputError
    assert "roots.pem" in str(error)


def test_a_context_is_made_once_and_anew_when_a_file_has_changed(authority: str, tmp_path: Path) -> None:
    """A renewed client certificate, or a list of roots that was replaced, counts from the next dial on."""
    own = tmp_path / "own.pem"
    certs.authority().issue_cert("robot@client.test").private_key_and_cert_chain_pem.write_to_path(own)
    first = context_for(authority, (str(own), None))
    assert context_for(authority, (str(own), None)) is first
    assert context_for(authority) is not first
    certs.authority().issue_cert("robot@client.test").private_key_and_cert_chain_pem.write_to_path(own)
    os.utime(own, ns=(1, 1))
    assert context_for(authority, (str(own), None)) is not first
    before = context_for(authority)
    certs.stranger().cert_pem.write_to_path(Path(authority), append=True)
    assert len(context_for(authority).get_ca_certs()) == 2
    assert before is not context_for(authority)


# -- fingerprints ------------------------------------------------------------------------


def spellings(shown: Shown) -> list[Any]:
    pairs = ":".join(shown.sha256[i : i + 2] for i in range(0, 64, 2)).upper()
    return [
        shown.sha256,
        f"sha256:{shown.sha256}",
        f"sha256 Fingerprint={pairs}",
        f"spki:{shown.spki.hex()}",
        f"sha256//{base64.b64encode(shown.spki).decode()}",
        ["00" * 32, f"spki:{base64.b64encode(shown.spki).decode()}"],
        f"{'00' * 32}, {pairs}",
    ]


@MODES
def test_the_right_fingerprint_in_any_spelling(
    tls: str, shown: Shown, authority: str, monkeypatch: Any
) -> None:
    for spelling in spellings(shown):
        assert isinstance(reach(shown, tls, monkeypatch, roots=authority, fingerprint=spelling), SendResult)


@MODES
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("roots", ["file", "fingerprint", "context"])
def test_another_certificate_is_told_with_what_was_seen(
    tls: str, version: Any, roots: str, shown: Shown, authority: str, monkeypatch: Any
) -> None:
    """And neither the log-in nor a message goes to it (``reach``)."""
    shown.context.minimum_version = shown.context.maximum_version = version
    options: dict[str, Any] = {"roots": authority if roots == "file" else roots}
    if roots == "context":
        options = {"ssl_context": certs.client_context()}
    wrong = ["spki:" + shown.sha256, "sha256:" + shown.spki.hex()]
    error = reach(shown, tls, monkeypatch, fingerprint=wrong, **options)
    assert type(error) is TlsError
    assert error.stage == "starttls"
    assert not error.temporary
    assert f"sha256:{shown.sha256}" in str(error)
    assert f"spki:{shown.spki.hex()}" in str(error)
    assert error.certificate.fingerprint == shown.sha256
    assert error.certificate.key_fingerprint == shown.spki.hex()
    assert wrong[0] in error.cure


@MODES
def test_with_the_chain_check_the_fingerprint_is_one_more(
    tls: str, shown: Shown, tmp_path: Path, monkeypatch: Any
) -> None:
    """A certificate that nobody vouches for, or for another name, is refused in spite of its fingerprint."""
    certs.stranger().cert_pem.write_to_path(tmp_path / "stranger.pem")
    roots = str(tmp_path / "stranger.pem")
    assert isinstance(reach(shown, tls, monkeypatch, fingerprint=shown.sha256, roots=roots), TlsError)
    assert isinstance(reach(shown, tls, monkeypatch, fingerprint=shown.sha256), TlsError)


@MODES
def test_the_fingerprint_alone_looks_at_neither_chain_nor_name(
    tls: str, tmp_path: Path, monkeypatch: Any
) -> None:
    shown = Shown("other.test", folder=tmp_path, ca=certs.stranger())
    result = reach(shown, tls, monkeypatch, roots="fingerprint", fingerprint=shown.sha256)
    assert isinstance(result, SendResult)


def test_a_pool_is_told_at_once_and_does_not_go_on_dialling(shown: Shown, monkeypatch: Any) -> None:
    resolve_all(monkeypatch)
    with (
        MailServer(ssl_context=shown.context, tls="implicit", strict=False) as server,
        SmtpPool(
            "mail.test", port=server.port, tls="implicit", roots="fingerprint", fingerprint="00" * 32
        ) as pool,
        pytest.raises(TlsError, match="another one than expected"),
    ):
        pool.send("ann@example.org", ["bob@example.org"], b"Subject: hi\r\n\r\nHi.\r\n")


def test_check_shows_both_and_says_what_is_wrong(shown: Shown) -> None:
    with MailServer(ssl_context=shown.context, tls="implicit", strict=False) as server:
        place: dict[str, Any] = {"port": server.port, "tls": "implicit", "roots": "fingerprint"}
        seen = check(server.host, **place, fingerprint=shown.sha256)
        assert seen.ok
        assert seen.roots == "its fingerprint alone"
        told = seen.as_dict()["tls"]["certificate"]
        assert (told["sha256"], told["spki"]) == (shown.sha256, shown.spki.hex())
        seen = check(server.host, **place, fingerprint="00" * 32)
        assert not seen.ok
        (finding,) = seen.findings
        assert shown.sha256 in finding.what
        assert "renewed" in finding.cure


# -- values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"roots": ""},
        {"roots": 5},
        {"roots": "a\0b"},
        {"roots": "fingerprint"},
        {"roots": "system", "tls": "none"},
        {"fingerprint": "00" * 32, "tls": "none"},
        {"fingerprint": "00" * 32, "tls": "opportunistic"},
        {"roots": "system", "ssl_context": ssl.create_default_context()},
        {"fingerprint": "00" * 31},
        {"fingerprint": "00" * 33},
        {"fingerprint": "sha1:" + "00" * 32},
        {"fingerprint": "sha256//" + "A" * 44},
        {"fingerprint": "md5 Fingerprint=" + "00" * 32},
        {"fingerprint": ""},
        {"fingerprint": ["00" * 32, ""]},
        {"fingerprint": 5},
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_dialled(options: Any) -> None:
    with pytest.raises((InputError, TypeError)) as caught:
        Server("mail.example.org", **options)
    assert isinstance(caught.value, InputError)


def test_both_are_part_of_the_value_and_of_its_url() -> None:
    server = Server(
        "mail.example.org", roots="/etc/ssl/our roots.pem", fingerprint=["AB" * 32, "spki:" + "cd" * 32]
    )
    assert server.fingerprint == ("sha256:" + "ab" * 32, "spki:" + "cd" * 32)
    assert Server.from_url(server.url) == server
    assert (
        Server.from_url("smtps://m.example?fingerprint=sha256//" + "A" * 42 + "8=").fingerprint[0][:5]
        == "spki:"
    )
    assert server.roots in repr(server)
