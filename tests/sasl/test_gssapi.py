"""RFC 4752 against a server that says what it must not, without a KDC; and what is said before any."""

from __future__ import annotations

import pickle
import re
import sys
import threading
from base64 import b64encode
from typing import Any

import pytest
from support.drive import Run, drive
from support.patience import LONG

import pysmtpx
from pysmtpx import AuthenticationError, Gssapi, InputError, Server
from pysmtpx.errors import Timeout
from pysmtpx.extras import MissingExtra
from pysmtpx.flow.auth import authenticate
from pysmtpx.sasl import gssapi
from pysmtpx.sasl.credentials import Credentials
from pysmtpx.sasl.mechanisms import Mechanism, Secret
from pysmtpx.sasl.proof import ProofError
from pysmtpx.wire.capabilities import Capabilities

FIRST, PROOF, LAYERS = b"first token", b"proof", b"sealed:\1\0\0\0"
OK = b"235 2.7.0 welcome\r\n"
OFFERED = Capabilities({"AUTH": ("GSSAPI", "PLAIN")})


class Context:
    """A context that is complete by one token; it seals by a word in front."""

    def __init__(self, *, needs: int = 1) -> None:
        self._needs = needs

    @property
    def is_complete(self) -> bool:
        return self._needs == 0

    def step(self, token: bytes) -> bytes:
        if token != PROOF:
            raise ProofError("a token of the server's is not valid: no proof")
        self._needs -= 1
        return b"" if self.is_complete else b"more"

    def wrap(self, message: bytes) -> bytes:
        return b"sealed:" + message

    def unwrap(self, token: bytes) -> bytes:
        if not token.startswith(b"sealed:"):
            raise ProofError("a token of the server's is not valid: no seal")
        return token.removeprefix(b"sealed:")


def encoded(octets: bytes) -> bytes:
    return b64encode(octets)


def challenge(octets: bytes) -> bytes:
    return b"334 " + encoded(octets) + b"\r\n"


def run(*replies: bytes, authzid: str = "", context: Context | None = None) -> Run:
    """A log-in, and what the server answers in turn, whatever it is sent."""
    ours = context or Context()

    def speak(mechanism: Mechanism, login: Any) -> Any:
        return gssapi.negotiate(ours, FIRST, login.authzid)

    row = Mechanism("GSSAPI", speak, Secret.NONE, needs_username=False, proves_server=True)
    flow = authenticate(
        Credentials(mechanisms=(row,), authzid=authzid), OFFERED, clear=False, binding=None, host="mail.test"
    )
    return drive(flow, [(None, reply) for reply in replies])


@pytest.mark.parametrize("authzid", ["", "δοκιμή@mail.test"])
def test_the_exchange(authzid: str) -> None:
    seen = run(challenge(PROOF), challenge(LAYERS), OK, authzid=authzid)
    assert seen.result() == "GSSAPI"
    choice = b"sealed:\1\0\0\0" + authzid.encode()
    assert seen.sent == [b"AUTH GSSAPI " + encoded(FIRST) + b"\r\n", b"\r\n", encoded(choice) + b"\r\n"]
    assert all(seen.secret)


def test_no_layer_is_chosen_among_several() -> None:
    seen = run(challenge(PROOF), challenge(b"sealed:\7\0\xff\xff"), OK)
    assert seen.result() == "GSSAPI"
    assert seen.sent[-1] == encoded(b"sealed:\1\0\0\0") + b"\r\n"


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ((challenge(b"forged"),), "not valid: no proof"),
        ((challenge(PROOF), challenge(b"\1\0\0\0")), "not valid: no seal"),
        ((OK,), "is empty"),
        ((b"235 " + encoded(PROOF) + b"\r\n",), "before the server proved itself"),
        ((challenge(PROOF), OK), "names no security layers"),
        ((challenge(PROOF), b"235 " + encoded(LAYERS) + b"\r\n"), "before the server proved itself"),
    ],
)
def test_who_is_not_the_server_is_told_nothing_more(replies: tuple[bytes, ...], why: str) -> None:
    seen = run(*replies)
    assert seen.closed
    with pytest.raises(AuthenticationError, match=why):
        seen.result()


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ((b"334 \r\n",), "is empty"),
        ((b"334 YII\r\n",), "not base64"),
        ((b"334-YIIx\r\n334 YIIx\r\n",), "more than one line"),
        ((challenge(PROOF), b"334 \r\n"), "names no security layers"),
        ((challenge(PROOF), challenge(b"sealed:")), "four octets"),
        ((challenge(PROOF), challenge(b"sealed:\1\0\0\0\0")), "four octets"),
        ((challenge(PROOF), challenge(b"sealed:\6\0\xff\xff")), "insists on a security layer"),
        ((challenge(PROOF), challenge(LAYERS), challenge(b"x")), "after the last answer"),
    ],
)
def test_what_cannot_be_answered_is_cancelled(replies: tuple[bytes, ...], why: str) -> None:
    seen = run(*replies, b"501 5.7.0 cancelled\r\n")
    assert seen.sent[-1] == b"*\r\n"
    with pytest.raises(AuthenticationError, match=why):
        seen.result()


def test_rounds_without_end() -> None:
    seen = run(*[challenge(PROOF)] * 7, b"", context=Context(needs=1000))
    assert seen.closed
    with pytest.raises(AuthenticationError, match="more than 6 challenges"):
        seen.result()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "/run/smtp.sock"])
def test_an_address_has_no_ticket(host: str) -> None:
    with pytest.raises(pysmtpx.CredentialsUnavailable, match="was called by none") as caught:
        gssapi._principal(f"smtp@{host}")
    assert "server_hostname" in caught.value.cure


@pytest.mark.parametrize(
    ("service", "principal"),
    [
        ("smtp@Mail.Example.ORG.", "smtp/mail.example.org@"),
        ("lmtp@müller.example", "lmtp/xn--mller-kva.example@"),
    ],
)
def test_the_principal_is_the_name_as_it_was_called(service: str, principal: str) -> None:
    assert gssapi._principal(service) == principal


def test_a_kdc_that_hangs_is_left_behind() -> None:
    end, ended = threading.Event(), threading.Event()

    def hang() -> bytes:
        end.wait(LONG)
        ended.set()
        return b""

    with pytest.raises(Timeout, match=r"no Kerberos ticket for smtp/mail\.test came in time"):
        gssapi._aside(hang, "smtp/mail.test@", lambda: 0.0)
    end.set()
    assert ended.wait(LONG)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'pysmtpx[gssapi]'")):
        pysmtpx.connect(Server("mail.test", auth="GSSAPI"))


def test_the_value() -> None:
    own = Gssapi(keytab="FILE:/etc/mail.keytab")
    assert pickle.loads(pickle.dumps(own)) == own
    assert Server("mail.test", auth=own).auth == (own,)
    assert Server("mail.test", auth="gssapi").auth == ("GSSAPI",)
    assert all(each.name != "GSSAPI" for each in Credentials()._wanted())  # never unasked
    for wrong in ("a\nb", "a\0b", 3):
        with pytest.raises(InputError):
            Gssapi(cache=wrong)  # type: ignore[arg-type]
