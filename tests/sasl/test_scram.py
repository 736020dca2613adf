"""SCRAM: the RFCs' own examples, an independent server, and every field tampered with (FAULTS 82, 83)."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scram_server import ScramServer

from pysmtpx.errors import InputError
from pysmtpx.sasl.saslprep import saslprep
from pysmtpx.sasl.scram import MAX_ITERATIONS, ScramClient, ScramError

RFC_5802_5 = {
    "digest": "sha1",
    "nonce": "fyko+d2lbbFgONRv9qkxdawL",
    "first": b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    "server_first": b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    "final": b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    "server_final": b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
}
RFC_7677_3 = {
    "digest": "sha256",
    "nonce": "rOprNGfwEbeRWgbNEkqO",
    "first": b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    "server_first": b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "final": b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "server_final": b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
}
# No RFC has an example: this one is among the tests of several other implementations.
KNOWN_SHA_512 = {
    "digest": "sha512",
    "nonce": "rOprNGfwEbeRWgbNEkqO",
    "first": b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    "server_first": b"r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865,"
    b"s=Yin2FuHTt/M0kJWb0t9OI32n2VmOGi3m+JfjOvuDF88=,i=4096",
    "final": b"c=biws,r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865,"
    b"p=Hc5yec3NmCD7t+kFRw4/3yD6/F3SQHc7AVYschRja+Bc3sbdjlA0eH1OjJc0DD4ghn1tnXN5/Wr6qm9xmaHt4A==",
    "server_final": b"v=BQuhnKHqYDwQWS5jAw4sZed+C9KFUALsbrq81bB0mh+bcUUbbMPNNmBIupnS2AmyyDnG5CTBQtkjJ9kyY4kz"
    b"mw==",
}
SALT = b"QSXCR+Q6sek8bf92"

# Text that SASLprep lets through, with what SCRAM must escape.
NAMES = st.text(st.sampled_from("ab,=ü\u00a0ﬁ你 ;%"), min_size=1, max_size=12)
PASSWORDS = st.text(st.sampled_from("xyz,=é\u3000Ⅸß!\\"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    "vector", [RFC_5802_5, RFC_7677_3, KNOWN_SHA_512], ids=["RFC 5802 5", "RFC 7677 3", "SHA-512"]
)
def test_the_examples_of_the_rfcs(vector: dict[str, bytes]) -> None:
    client = ScramClient(vector["digest"], "user", "pencil", nonce=vector["nonce"])
    assert client.first() == vector["first"]
    assert client.final(vector["server_first"]) == vector["final"]
    client.verify(vector["server_final"])


@settings(max_examples=30)
@given(
    name=NAMES,
    password=PASSWORDS,
    authzid=st.text("ab,=é", max_size=6),
    salt=st.binary(min_size=1, max_size=40),
    iterations=st.integers(4096, 4200),
    digest=st.sampled_from(["sha1", "sha256", "sha512"]),
    binding=st.none() | st.binary(min_size=20, max_size=64),
)
def test_any_account_logs_in_and_both_sides_are_proved(
    name: str,
    password: str,
    authzid: str,
    salt: bytes,
    iterations: int,
    digest: str,
    binding: bytes | None,
) -> None:
    flag = "n" if binding is None else "p=tls-server-end-point"
    client = ScramClient(digest, name, password, gs2_flag=flag, binding=binding or b"", authzid=authzid)
    server = ScramServer(
        saslprep(name, stored=False),
        saslprep(password, stored=True),
        digest,
        salt=salt,
        iterations=iterations,
        binding=binding,
    )
    server_final = server.final(client.final(server.first(client.first())))
    client.verify(server_final)
    assert (server.gs2_flag, server.authzid) == (flag, authzid)


@settings(max_examples=20)
@given(password=PASSWORDS, other=PASSWORDS)
def test_a_wrong_password_convinces_neither_side(password: str, other: str) -> None:
    if saslprep(password, stored=True) == saslprep(other, stored=True):
        other += "!"
    client = ScramClient("sha256", "user", other)
    server = ScramServer("user", saslprep(password, stored=True))
    answer = server.final(client.final(server.first(client.first())))
    assert answer == b"e=invalid-proof"
    with pytest.raises(ScramError, match="invalid-proof"):
        client.verify(answer)


@settings(max_examples=60)
@given(data=st.data(), stage=st.sampled_from(["server-first", "client-final", "server-final"]))
def test_one_octet_changed_on_the_way_is_noticed(data: st.DataObject, stage: str) -> None:
    """FAULTS 82: whoever sits in the middle cannot change a field of any message."""
    with pytest.raises((ScramError, AssertionError)):
        _logged_in(lambda name, message: _tampered(data, message) if name == stage else message)


def test_the_same_log_in_unchanged_is_good() -> None:
    _logged_in(lambda name, message: message)


def _logged_in(passed_on: Callable[[str, bytes], bytes]) -> None:
    client = ScramClient("sha256", "user", "pencil")
    server = ScramServer("user", "pencil")
    server_first = passed_on("server-first", server.first(client.first()))
    client_final = passed_on("client-final", client.final(server_first))
    client.verify(passed_on("server-final", server.final(client_final)))


def _tampered(data: st.DataObject, message: bytes) -> bytes:
    # The last characters are left alone: in base64 they carry bits that are not in
    # the octets, and a higher iteration count only costs time.
    place = data.draw(st.integers(0, len(message) - 5))
    octet = data.draw(st.integers(0x21, 0x7E).filter(lambda octet: octet != message[place]))
    return message[:place] + bytes([octet]) + message[place + 1 :]


def _answer(server_first: bytes) -> bytes:
    return ScramClient("sha1", "user", "pencil", nonce="ours").final(server_first)


@pytest.mark.parametrize(
    ("server_first", "why"),
    [
        (b"r=ours,s=%b,i=4096", "nonce"),
        (b"r=our,s=%b,i=4096", "nonce"),
        (b"r=,s=%b,i=4096", "nonce"),
        (b"r=theirs+ours,s=%b,i=4096", "nonce"),
        (b"r=OURS+theirs,s=%b,i=4096", "nonce"),
        (b"r=ours+,s=%b,i=4095", "iteration"),
        (b"r=ours+,s=%b,i=1", "iteration"),
        (b"r=ours+,s=%b,i=1000001", "iteration"),
        (b"r=ours+,s=%b,i=" + b"9" * 5000, "iteration"),
        (b"r=ours+,s=%b,i=-4096", "iteration"),
        (b"r=ours+,s=%b,i=4_096", "iteration"),
        (b"r=ours+,s=%b,i=", "iteration"),
        (b"r=ours+,s=%b,i=\xb2", "iteration"),
        (b"r=ours+,s=,i=4096", "base64"),
        (b"r=ours+,s=Q!==,i=4096", "base64"),
        (b"r=ours+,s=QSX,i=4096", "base64"),
        (b"m=new,r=ours+,s=%b,i=4096", "malformed"),
        (b"s=%b,r=ours+,i=4096", "malformed"),
        (b"r=ours+,s=%b", "malformed"),
        (b"r=ours+", "malformed"),
        (b"", "malformed"),
        (b"\xff\x00", "malformed"),
        (b"e=unknown-user", "unknown-user"),
    ],
)
def test_an_unsafe_server_first_message_gets_no_proof(server_first: bytes, why: str) -> None:
    """FAULTS 82."""
    with pytest.raises(ScramError, match=why):
        _answer(server_first.replace(b"%b", SALT))


@pytest.mark.parametrize("iterations", [4096, MAX_ITERATIONS])
def test_the_bounds_of_the_iteration_count_are_within(iterations: int) -> None:
    assert b",p=" in _answer(b"r=ours+,s=%b,i=%d" % (SALT, iterations))


def test_extensions_after_the_iteration_count_are_passed_over() -> None:
    """RFC 5802 5.1: a client ignores optional extensions that it does not know."""
    assert b",p=" in _answer(b"r=ours+,s=%b,i=4096,x=\xff" % SALT)


@pytest.mark.parametrize(
    ("server_final", "why"),
    [
        (b"", "missing"),
        (b"v", "wrong"),
        (b"v=", "wrong"),
        # The same octets in base64 that is not canonical.
        (b"v=rmF9pqV8S7suAoZWja4dJRkFsKR=", "wrong"),
        (b"v=rmF9", "wrong"),
        (b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "wrong"),
        (b"x=1,v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "missing"),
        (b"V=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "missing"),
        (b"e=invalid-proof", "invalid-proof"),
        (b"e=invalid-proof,v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "invalid-proof"),
    ],
)
def test_a_server_that_does_not_prove_itself_is_refused(server_final: bytes, why: str) -> None:
    """FAULTS 82."""
    client = ScramClient("sha1", "user", "pencil", nonce=str(RFC_5802_5["nonce"]))
    client.final(RFC_5802_5["server_first"])
    with pytest.raises(ScramError, match=why):
        client.verify(server_final)


@pytest.mark.parametrize("server_final", [b"v=", b"v=AAAA", RFC_5802_5["server_final"]])
def test_a_signature_before_the_proof_is_worth_nothing(server_final: bytes) -> None:
    """FAULTS 82: nothing is compared with a signature that does not exist yet."""
    with pytest.raises(ScramError):
        ScramClient("sha1", "user", "pencil").verify(server_final)


def test_the_words_of_the_server_are_bounded_and_cannot_write_to_a_terminal() -> None:
    """FAULTS 12."""
    with pytest.raises(ScramError) as caught:
        ScramClient("sha1", "user", "pencil").verify(b"e=\x1b[2J\r\n\xff" + b"a" * 5000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_each_run_has_a_nonce_of_its_own() -> None:
    nonces = {ScramClient("sha1", "user", "pencil").first().partition(b",r=")[2] for _ in range(100)}
    assert len(nonces) == 100
    # RFC 5802 5.1: printable, no comma; 18 octets of chance or more.
    assert all(re.fullmatch(rb"[!-+\--~]{24,}", nonce) for nonce in nonces)


@pytest.mark.parametrize(
    ("name", "escaped"), [("a,b", b"a=2Cb"), ("a=b", b"a=3Db"), ("=2C", b"=3D2C"), ("ü\u00a0", "ü ".encode())]
)
def test_the_user_name_cannot_end_its_attribute(name: str, escaped: bytes) -> None:
    first = ScramClient("sha1", name, "pencil", authzid=name, nonce="N").first()
    assert first.endswith(b",n=%b,r=N" % escaped)
    assert first.startswith(b"n,a=")
    assert first.count(b",") == 3


@pytest.mark.parametrize(
    ("name", "password"),
    [("user", "pencil\x07"), ("user", "pencil\U0001f600"), ("bad\x07", "pencil"), ("\u00ad", "pencil")],
)
def test_credentials_that_saslprep_forbids_are_the_callers_error(name: str, password: str) -> None:
    with pytest.raises(InputError) as caught:
        ScramClient("sha1", name, password)
    assert "pencil" not in str(caught.value)


def test_the_channel_is_bound_into_the_proof() -> None:
    """FAULTS 83: another channel, and the server refuses."""
    client = ScramClient("sha256", "user", "pencil", gs2_flag="p=tls-server-end-point", binding=b"mitm")
    server = ScramServer("user", "pencil", binding=b"real")
    final = client.final(server.first(client.first()))
    assert b64decode(final[2 : final.index(b",")]) == b"p=tls-server-end-point,,mitm"
    assert server.final(final) == b"e=channel-bindings-dont-match"
