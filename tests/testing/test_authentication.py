"""AUTH as the pure server does it: every mechanism, right, wrong and malformed."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.talk import Talk, codes

from pysmtpx.testing import Event, sasl

USERS = {"ann": "secret", "user": "pencil"}
TOKENS = {"ann": "t0ken"}
OK = {"users": USERS, "tokens": TOKENS}


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def challenge(reply: bytes) -> bytes:
    assert reply.startswith(b"334 "), reply
    return base64.b64decode(reply[4:])


ONE_STEP = [
    (b"PLAIN", b"\0ann\0secret", 235),
    (b"PLAIN", b"ann\0ann\0secret", 235),
    (b"PLAIN", b"bob\0ann\0secret", 535),
    (b"PLAIN", b"\0ann\0wrong", 535),
    (b"PLAIN", b"\0bob\0secret", 535),
    (b"XOAUTH2", b"user=ann\x01auth=Bearer t0ken\x01\x01", 235),
    (b"OAUTHBEARER", b"n,a=ann,\x01host=h\x01port=1\x01auth=Bearer t0ken\x01\x01", 235),
    (b"OAUTHBEARER", b"n,,\x01auth=Bearer t0ken\x01\x01", 235),
    (b"EXTERNAL", b"", 235),
    (b"EXTERNAL", b"ann", 235),
    (b"EXTERNAL", b"bob", 535),
]


@pytest.mark.parametrize(("mechanism", "response", "code"), ONE_STEP)
@pytest.mark.parametrize("initial", [True, False])
def test_mechanisms_of_one_step(mechanism: bytes, response: bytes, code: int, initial: bool) -> None:
    talk = Talk(**OK, external="ann")
    if initial:
        replies = talk.say(b"AUTH " + mechanism + b" " + (b64(response) or b"="))
    else:
        assert challenge(talk.say(b"AUTH " + mechanism)) == b""
        replies = talk.say(b64(response))
    assert (codes(replies), talk.breaches) == ([code], [])
    assert talk.ledger.connections[0].user == ("ann" if code == 235 else None)


@pytest.mark.parametrize(
    ("user", "password", "code"), [(b"ann", b"secret", 235), (b"ann", b"x", 535), (b"x", b"x", 535)]
)
@pytest.mark.parametrize("initial", [True, False])
def test_login(user: bytes, password: bytes, code: int, initial: bool) -> None:
    talk = Talk(**OK)
    if initial:
        reply = talk.say(b"AUTH LOGIN " + b64(user))
    else:
        assert challenge(talk.say(b"AUTH LOGIN")) == b"Username:"
        reply = talk.say(b64(user))
    assert challenge(reply) == b"Password:"
    assert talk.codes(b64(password)) == [code]
    assert talk.breaches == []


@pytest.mark.parametrize(
    ("user", "password", "code"), [(b"ann", b"secret", 235), (b"ann", b"x", 535), (b"x", b"x", 535)]
)
def test_cram_md5(user: bytes, password: bytes, code: int) -> None:
    talk = Talk(**OK)
    digest = hmac.new(password, challenge(talk.say(b"AUTH CRAM-MD5")), "md5").hexdigest().encode()
    assert talk.codes(b64(user + b" " + digest)) == [code]
    assert talk.breaches == []


@pytest.mark.parametrize(
    ("mechanism", "response", "answer"),
    [
        (b"XOAUTH2", b"user=ann\x01auth=Bearer bad\x01\x01", b""),
        (b"OAUTHBEARER", b"n,a=ann,\x01auth=Bearer bad\x01\x01", b"\x01"),
    ],
)
def test_a_bad_token_gets_an_error_as_challenge(mechanism: bytes, response: bytes, answer: bytes) -> None:
    """FAULTS 79."""
    talk = Talk(**OK)
    error = json.loads(challenge(talk.say(b"AUTH " + mechanism + b" " + b64(response))))
    assert error["status"] == "invalid_token"
    assert talk.codes(b64(answer)) == [535]
    assert talk.breaches == []
    talk.say(b"AUTH " + mechanism + b" " + b64(response))
    assert talk.codes(b64(b"other")) == [501]
    assert len(talk.breaches) == 1


# SCRAM, by the examples of RFC 5802 5 and RFC 7677 3.

SHA_1 = (
    b"AUTH SCRAM-SHA-1 ",
    b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
)
SHA_256 = (
    b"AUTH SCRAM-SHA-256 ",
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)


@pytest.fixture(params=[SHA_1, SHA_256], ids=["SHA-1", "SHA-256"])
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[bytes, ...]]:
    nonce, salt, _ = request.param[2].split(b",")
    client_nonce = request.param[1].partition(b"r=")[2]
    monkeypatch.setattr(sasl.secrets, "token_bytes", lambda size: base64.b64decode(salt[2:]))
    monkeypatch.setattr(sasl.secrets, "token_urlsafe", lambda size: nonce[2 + len(client_nonce) :].decode())
    return request.param


def test_scram_by_the_examples(example: tuple[bytes, ...]) -> None:
    auth, first, server_first, final, server_final = example
    talk = Talk(**OK)
    assert challenge(talk.say(auth + b64(first))) == server_first
    assert challenge(talk.say(b64(final))) == server_final
    assert talk.codes(b"") == [235]
    assert (talk.breaches, talk.ledger.connections[0].user) == ([], "user")


@pytest.mark.parametrize(
    ("old", "new", "code", "count"),
    [
        (b"p=", b"p=AAAA", 535, 0),
        (b"c=biws", b"c=eSws", 535, 0),
        (b",r=", b",r=x", 501, 1),
        (b"c=biws", b"c=b", 501, 1),
        (b",p=", b",q=", 501, 1),
    ],
)
def test_scram_with_a_wrong_final_message(
    example: tuple[bytes, ...], old: bytes, new: bytes, code: int, count: int
) -> None:
    auth, first, _, final, _ = example
    talk = Talk(**OK)
    talk.say(auth + b64(first))
    wrong = final.replace(old, new, 1)
    if old == b"p=":
        wrong = final.partition(b"p=")[0] + b"p=" + b64(b"x" * 20)
    assert talk.codes(b64(wrong)) == [code]
    assert len(talk.breaches) == count


def test_scram_wants_an_empty_response_to_its_signature(example: tuple[bytes, ...]) -> None:
    auth, first, _, final, _ = example
    talk = Talk(**OK)
    talk.say(auth + b64(first), b64(final))
    assert talk.codes(b64(b"x")) == [501]
    assert len(talk.breaches) == 1


BINDING = b"end point"


@pytest.mark.parametrize(
    ("mechanism", "first", "code", "count"),
    [
        (b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=user,r=x", 334, 0),
        (b"SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=user,r=x", 535, 0),
        (b"SCRAM-SHA-512-PLUS", b"p=tls-exporter,,n=user,r=x", 535, 0),
        (b"SCRAM-SHA-256-PLUS", b"n,,n=user,r=x", 501, 1),
        (b"SCRAM-SHA-256", b"p=tls-server-end-point,,n=user,r=x", 501, 1),
        (b"SCRAM-SHA-256", b"y,,n=user,r=x", 535, 0),
        (b"SCRAM-SHA-256", b"n,,n=user,r=x", 334, 0),
        (b"SCRAM-SHA-256", b"n,a=us=3Der,n=us=3Der,r=x", 334, 0),
        (b"SCRAM-SHA-256", b"n,a=ann,n=user,r=x", 535, 0),
        (b"SCRAM-SHA-256", b"n,,n=us=er,r=x", 501, 1),
        (b"SCRAM-SHA-256", b"n,,r=x", 501, 1),
        (b"SCRAM-SHA-256", b"\xff", 501, 1),
    ],
)
def test_scram_first_messages_and_channel_binding(
    mechanism: bytes, first: bytes, code: int, count: int
) -> None:
    """FAULTS 83."""
    talk = Talk(**OK, extensions=["STARTTLS"])
    talk.start_tls(binding=BINDING)
    assert b"SCRAM-SHA-256-PLUS" in talk.hello
    assert talk.codes(b"AUTH " + mechanism + b" " + b64(first)) == [code]
    assert len(talk.breaches) == count


def test_scram_plus_with_the_right_binding() -> None:
    talk = Talk(**OK, extensions=["STARTTLS"])
    talk.start_tls(binding=BINDING)
    first = b"n=user,r=x"
    header = b"p=tls-server-end-point,,"
    server_first = challenge(talk.say(b"AUTH SCRAM-SHA-256-PLUS " + b64(header + first)))
    nonce, salt, _ = server_first.split(b",")
    bare = b"c=" + b64(header + BINDING) + b"," + nonce
    signed = b",".join([first, server_first, bare])
    salted = sasl.hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(salt[2:]), 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(sasl.hashlib.sha256(client_key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    assert challenge(talk.say(b64(bare + b",p=" + b64(proof)))).startswith(b"v=")
    assert talk.codes(b"") == [235]
    assert talk.breaches == []


# The command and its order.


@pytest.mark.parametrize(
    ("lines", "code", "breach"),
    [
        ([b"AUTH"], 504, "AUTH  is not offered"),
        ([b"AUTH GSSAPI"], 504, "AUTH GSSAPI is not offered"),
        ([b"AUTH CRAM-MD5 eA=="], 501, "AUTH CRAM-MD5 with an initial response"),
        ([b"AUTH PLAIN !"], 501, "a response is not base64 (RFC 4954 4)"),
        ([b"AUTH PLAIN", b"\xff"], 501, "a response is not base64 (RFC 4954 4)"),
        ([b"AUTH PLAIN eA=="], 501, "a PLAIN message is authzid NUL authcid NUL passwd (RFC 4616 2)"),
        ([b"AUTH PLAIN " + b64(b"\0\xff\0x")], 501, "a PLAIN message is not UTF-8"),
        ([b"AUTH CRAM-MD5", b64(b"ann x")], 501, "a CRAM-MD5 response is a user, a space and 32"),
        ([b"AUTH XOAUTH2 eA=="], 501, "an XOAUTH2 response is"),
        ([b"AUTH OAUTHBEARER eA=="], 501, "an OAUTHBEARER response is"),
        ([b"AUTH PLAIN " + b"A" * 504], 500, "AUTH has 517 octets, 512 are allowed"),
        ([b"AUTH PLAIN", b"A" * 12_292], 501, "a response has 12294 octets, 12288 are allowed (RFC 4954 4)"),
        ([b"AUTH PLAIN", b"\x01"], 500, "a command line has a control character"),
        ([b"MAIL FROM:<>", b"AUTH PLAIN"], 503, "AUTH within a transaction (RFC 4954 4)"),
        (
            [b"AUTH PLAIN " + b64(b"\0ann\0secret"), b"AUTH PLAIN"],
            503,
            "AUTH after a successful AUTH (RFC 4954 4)",
        ),
    ],
)
def test_breaches_of_auth(lines: list[bytes], code: int, breach: str) -> None:
    """FAULTS 81."""
    talk = Talk(**OK)
    assert talk.codes(*lines)[-1] == code
    assert talk.breaches[0].startswith(breach)


def test_a_client_may_cancel_and_try_again() -> None:
    talk = Talk(**OK)
    assert talk.codes(b"AUTH LOGIN", b"*", b"AUTH PLAIN " + b64(b"\0ann\0secret")) == [334, 501, 235]
    assert talk.breaches == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"users": USERS}, "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN"),
        ({"tokens": TOKENS}, "XOAUTH2 OAUTHBEARER"),
        ({"external": "ann"}, "EXTERNAL"),
        ({"users": USERS, "mechanisms": ["LOGIN"]}, "LOGIN"),
        ({"users": USERS, "extensions": ["AUTH=LOGIN"]}, None),
    ],
)
def test_what_is_offered(options: dict[str, Any], expected: str | None) -> None:
    lines = [line for line in Talk(**options).hello.decode().splitlines() if line[4:8] == "AUTH"]
    if expected is None:
        assert lines == ["250 AUTH=LOGIN"]
    else:
        assert [line[9:] for line in lines] == ([expected] if expected else [])


def test_a_certificate_makes_external_offered() -> None:
    talk = Talk(extensions=["STARTTLS"])
    talk.start_tls(identity="ann@x.example")
    assert talk.hello.endswith(b"250 AUTH EXTERNAL\r\n")
    assert talk.codes(b"AUTH EXTERNAL =") == [235]


def test_a_mechanism_that_is_offered_and_unknown() -> None:
    talk = Talk(mechanisms=["GSSAPI"])
    assert talk.codes(b"AUTH GSSAPI") == [504]
    assert talk.breaches == []


# Scripts.


def test_an_endless_challenge() -> None:
    """FAULTS 77."""
    talk = Talk(**OK, replies={"AUTH": "334 "})
    assert talk.codes(b"AUTH PLAIN " + b64(b"\0ann\0secret"), b"", b"", b"") == [334] * 4
    assert talk.breaches == []


def test_rounds_can_be_scripted_one_by_one() -> None:
    """FAULTS 78, 80."""
    talk = Talk(**OK, replies={("AUTH", 1): "334 !!!", ("AUTH", 2): "454 4.7.0 later"})
    assert talk.say(b"AUTH LOGIN", b64(b"ann"), b64(b"x")).splitlines()[1:] == [
        b"334 !!!",
        b"454 4.7.0 later",
    ]
    assert talk.codes(b"NOOP") == [250]


def test_after_a_scripted_334_the_honest_end_is_a_refusal() -> None:
    talk = Talk(**OK, replies={("AUTH", 0): "334 "})
    assert talk.codes(b"AUTH PLAIN " + b64(b"\0ann\0secret"), b"") == [334, 535]


def test_a_scripted_235_authenticates() -> None:
    talk = Talk(**OK, replies={"AUTH": "235 come in"}, require_auth=True)
    assert talk.codes(b"AUTH PLAIN", b"MAIL FROM:<>") == [235, 250]


def test_a_verdict_can_forge_what_scram_says(example: tuple[bytes, ...]) -> None:
    """FAULTS 82."""

    def forge(event: Event) -> bytes | None:
        return b"334 " + b64(b"v=AAAA") + b"\r\n" if (event.verb, event.index) == ("AUTH", 1) else None

    auth, first, _, final, _ = example
    talk = Talk(**OK, verdict=forge)
    talk.say(auth + b64(first))
    assert challenge(talk.say(b64(final))) == b"v=AAAA"
