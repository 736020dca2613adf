"""The mechanisms: what each puts on the wire, and what it does with a challenge that cannot be."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import InputError
from pysmtpx.sasl.binding import ChannelBinding
from pysmtpx.sasl.credentials import MAX_NAME, MAX_PASSWORD
from pysmtpx.sasl.mechanisms import MECHANISMS, ChallengeError, Exchange, SaslLogin, oauth_failure
from pysmtpx.sasl.proof import ProofError
from pysmtpx.wire.limits import MAX_COMMAND_LINE
from pysmtpx.wire.reply import Reply

CLAIM = SaslLogin(
    username="tim", password="tanstaaftanstaaf", token="vF9dft4qmT", host="server.example.com", port=587
)

BINDING = ChannelBinding("tls-exporter", b"b")

ODD_CHALLENGES = [
    Reply(334, (b"!",)),
    Reply(334, (b"QQ",)),
    Reply(334, (b"Q Q=",)),
    Reply(334, (b"Username:",)),
    Reply(334, (b"\xff\xfe==",)),
    Reply(334, (b"QQ==QQ==",)),
    Reply(334, (b"QQ==", b"QQ==")),
]


def _exchange(name: str, claim: SaslLogin = CLAIM) -> Exchange:
    return Exchange(MECHANISMS[name], claim)


def _challenge(text: bytes) -> Reply:
    return Reply(334, (b64encode(text),))


def _said(line: bytes) -> bytes:
    assert line.endswith(b"\r\n")
    return b64decode(line.split(b" ")[-1].removesuffix(b"\r\n"), validate=True)


@pytest.mark.parametrize(
    ("name", "claim", "initial"),
    [
        ("PLAIN", CLAIM, b"\0tim\0tanstaaftanstaaf"),
        (
            "PLAIN",
            SaslLogin(username="Kurt", password="xipj3plmq", authzid="Ursel"),
            b"Ursel\0Kurt\0xipj3plmq",
        ),
        ("PLAIN", SaslLogin(username="ü", password="pässwörd €"), "\0ü\0pässwörd €".encode()),
        (
            "OAUTHBEARER",
            SaslLogin(username="user@example.com", token="vF9dft4qmT", host="server.example.com", port=143),
            b"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer vF9dft4qmT\1\1",
        ),
        ("OAUTHBEARER", SaslLogin(token="t"), b"n,,\1auth=Bearer t\1\1"),
        ("OAUTHBEARER", SaslLogin(username="a,b=c", token="t"), b"n,a=a=2Cb=3Dc,\1auth=Bearer t\1\1"),
        ("OAUTHBEARER", SaslLogin(username="a", authzid="b", token="t"), b"n,a=b,\1auth=Bearer t\1\1"),
        (
            "XOAUTH2",
            SaslLogin(username="someuser@example.com", token="ya29.vF9dft4qmTc2"),
            b"user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2\1\1",
        ),
        ("EXTERNAL", SaslLogin(username="tim"), b"tim"),
        ("EXTERNAL", SaslLogin(username="tim", authzid="ursel"), b"ursel"),
    ],
)
def test_the_initial_response_of_each_mechanism(name: str, claim: SaslLogin, initial: bytes) -> None:
    opening = _exchange(name, claim).opening
    assert opening.startswith(b"AUTH %b " % name.encode())
    assert _said(opening) == initial


def test_external_without_a_name_sends_an_empty_initial_response() -> None:
    """RFC 4954 4: an empty initial response is a single equals sign."""
    assert _exchange("EXTERNAL", SaslLogin()).opening == b"AUTH EXTERNAL =\r\n"


def test_cram_md5_answers_the_example_of_rfc_2195() -> None:
    exchange = _exchange("CRAM-MD5")
    assert exchange.opening == b"AUTH CRAM-MD5\r\n"
    answer = exchange.answer(_challenge(b"<1896.697170952@postoffice.reston.mci.net>"))
    assert _said(answer) == b"tim b913a602c7eda7a495b4e6e7334d3890"


@given(name=st.text("aü ", min_size=1), password=st.text("xé§", min_size=1), challenge=st.binary(min_size=1))
def test_cram_md5_is_the_digest_of_the_whole_challenge(name: str, password: str, challenge: bytes) -> None:
    exchange = _exchange("CRAM-MD5", SaslLogin(username=name, password=password))
    proof = hmac.new(password.encode(), challenge, "md5").hexdigest()
    assert _said(exchange.answer(_challenge(challenge))) == f"{name} {proof}".encode()


@pytest.mark.parametrize(
    "prompts", [(b"Username:", b"Password:"), (b"User Name\0", b"Password\0"), (b"", b"")]
)
def test_login_answers_in_turn_whatever_the_prompts_say(prompts: tuple[bytes, bytes]) -> None:
    exchange = _exchange("LOGIN", SaslLogin(username="tîm", password="pässwörd"))
    assert exchange.opening == b"AUTH LOGIN\r\n"
    assert _said(exchange.answer(_challenge(prompts[0]))) == "tîm".encode()
    assert _said(exchange.answer(_challenge(prompts[1]))) == "pässwörd".encode()


@pytest.mark.parametrize(("name", "answer"), [("XOAUTH2", b"\r\n"), ("OAUTHBEARER", b"AQ==\r\n")])
def test_the_reason_for_a_refused_token_is_acknowledged(name: str, answer: bytes) -> None:
    """FAULTS 79, RFC 7628 3.2.3."""
    exchange = _exchange(name)
    assert exchange.answer(_challenge(b'{"status":"invalid_token"}')) == answer
    assert exchange.challenge == b'{"status":"invalid_token"}'


@given(st.integers(1, 800))
def test_an_initial_response_goes_with_auth_exactly_where_it_fits(length: int) -> None:
    """FAULTS 81: AUTH lines have at most 512 octets; the rest goes in two steps."""
    exchange = _exchange("PLAIN", SaslLogin(username="u", password="p" * length))
    response = b64encode(b"\0u\0" + b"p" * length)
    if len(b"AUTH PLAIN \r\n") + len(response) <= MAX_COMMAND_LINE:
        assert exchange.opening == b"AUTH PLAIN " + response + b"\r\n"
    else:
        assert exchange.opening == b"AUTH PLAIN\r\n"
        assert exchange.answer(_challenge(b"")) == response + b"\r\n"


def test_a_long_scram_name_goes_in_two_steps_and_the_exchange_goes_on() -> None:
    """FAULTS 81."""
    exchange = _exchange("SCRAM-SHA-1", SaslLogin(username="u" * 500, password="p"))
    assert exchange.opening == b"AUTH SCRAM-SHA-1\r\n"
    first = _said(exchange.answer(_challenge(b"")))
    nonce = first.rpartition(b"r=")[2]
    final = _said(exchange.answer(_challenge(b"r=%b+,s=QSXCR+Q6sek8bf92,i=4096" % nonce)))
    assert final.startswith(b"c=biws,r=" + nonce)


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("reply", ODD_CHALLENGES)
def test_a_held_initial_response_answers_whatever_is_said(name: str, reply: Reply) -> None:
    """FAULTS 117: the challenge before it is empty (RFC 4954 4), and servers decorate it."""
    secret = SaslLogin(username="u" * 500, password="p", token="t" * 500, authzid="a" * 500, binding=BINDING)
    exchange = _exchange(name, secret)
    if name in ("CRAM-MD5", "LOGIN"):
        return  # the server speaks first
    assert exchange.opening == f"AUTH {name}\r\n".encode()
    assert _said(exchange.answer(reply))


@pytest.mark.parametrize("reply", ODD_CHALLENGES)
def test_what_login_is_asked_means_nothing(reply: Reply) -> None:
    """FAULTS 117: not base64, not padded, of two lines, or nothing at all."""
    exchange = _exchange("LOGIN", SaslLogin(username="user", password="tanstaaf"))
    assert [_said(exchange.answer(reply)), _said(exchange.answer(reply))] == [b"user", b"tanstaaf"]
    with pytest.raises(ChallengeError, match="after the last"):
        exchange.answer(reply)


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_that_no_line_can_carry_is_refused_before_the_first(name: str) -> None:
    with pytest.raises(InputError) as caught:
        _exchange(name, SaslLogin(username="u", token="t" * 12_288))
    assert "ttt" not in str(caught.value)


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "CRAM-MD5", "LOGIN"])
def test_the_longest_credentials_fit_every_line_of_a_conversation(name: str) -> None:
    """What is refused is refused before a byte is written, never half-way."""
    longest = SaslLogin(
        username="u" * MAX_NAME,
        password="p" * MAX_PASSWORD,
        authzid="," * MAX_NAME,
        binding=ChannelBinding("tls-server-end-point", b"b" * 64),
    )
    exchange = _exchange(name, longest)
    if name.startswith("SCRAM"):
        nonce = _said(exchange.answer(_challenge(b""))).rpartition(b"r=")[2]
        assert exchange.answer(_challenge(b"r=%b+,s=QSXCR+Q6sek8bf92,i=4096" % nonce))
    else:
        assert exchange.answer(_challenge(b"c"))
        assert name == "CRAM-MD5" or exchange.answer(_challenge(b"c"))


@pytest.mark.parametrize("name", [name for name in MECHANISMS if name != "LOGIN"])
@pytest.mark.parametrize("reply", ODD_CHALLENGES)
def test_a_challenge_that_is_not_one_line_of_base64_is_not_answered(name: str, reply: Reply) -> None:
    """FAULTS 78."""
    with pytest.raises(ChallengeError):
        _exchange(name, SaslLogin(username="u", password="p", token="t", binding=BINDING)).answer(reply)


@pytest.mark.parametrize("name", ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS"])
def test_an_empty_challenge_where_one_is_due_is_not_answered(name: str) -> None:
    """FAULTS 78."""
    with pytest.raises(ChallengeError, match="empty"):
        _exchange(name, SaslLogin(username="u", password="p", binding=BINDING)).answer(Reply(334, (b"",)))


@pytest.mark.parametrize(
    ("name", "due"),
    [("PLAIN", 0), ("EXTERNAL", 0), ("CRAM-MD5", 1), ("LOGIN", 2), ("XOAUTH2", 1), ("OAUTHBEARER", 1)],
)
def test_a_challenge_after_the_last_answer_is_not_answered(name: str, due: int) -> None:
    """FAULTS 78: above all, CRAM-MD5 signs no second challenge."""
    exchange = _exchange(name)
    for _ in range(due):
        exchange.answer(_challenge(b"challenge"))
    with pytest.raises(ChallengeError, match="after the last"):
        exchange.answer(_challenge(b"challenge"))


@pytest.mark.parametrize("text", [b"", b"2.7.0 ok", b"2.7.0 dj1BQUFB", b"\xff", b"cj1vdXJz"])
def test_235_alone_does_not_conclude_scram(text: bytes) -> None:
    """FAULTS 82."""
    with pytest.raises((ProofError, ChallengeError)):
        _exchange("SCRAM-SHA-256").conclude(Reply(235, (text,)))


def test_235_in_place_of_the_first_challenge_does_not_conclude_scram() -> None:
    """FAULTS 82: what it carries would do as a challenge, and proves nothing."""
    exchange = _exchange("SCRAM-SHA-256")
    nonce = _said(exchange.opening).rpartition(b"r=")[2]
    server_first = b64encode(b"r=%b+,s=QSXCR+Q6sek8bf92,i=4096" % nonce)
    with pytest.raises(ProofError, match="before the server proved"):
        exchange.conclude(Reply(235, (b"2.7.0 " + server_first,)))


@pytest.mark.parametrize(
    ("challenge", "shown"),
    [
        (b'{"status":"invalid_token","scope":"mail"}', "status 'invalid_token', scope 'mail'"),
        (
            b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}',
            "status '400', scope 'https://mail.google.com/', schemes 'Bearer'",
        ),
        (
            b'{"status":401,"openid-configuration":"https://x/"}',
            "status '401', openid-configuration 'https://x/'",
        ),
        (b'{"status":{"a":1},"scope":["b"],"schemes":true,"more":"x"}', ""),
        (b'{"status":"\\u001b[2J\\r\\n\\ud800\xc3\xbc"}', r"status '\x1b[2J\r\n\ud800\xfc'"),
        (b'{"status":"' + b"a" * 4000 + b'"}', f"status '{'a' * 80}'"),
        (b'{"schemes":"bearer"}', "schemes 'bearer'"),
        (b'{"status":null}', ""),
        (b"[1]", ""),
        (b"eyJz", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b"9" * 5000, ""),
        (b"", ""),
    ],
)
def test_what_is_said_of_a_refused_token_is_bounded_and_printable(challenge: bytes, shown: str) -> None:
    """FAULTS 79, 12."""
    assert oauth_failure(challenge) == shown


def test_no_secret_is_in_a_repr() -> None:
    """FAULTS 85."""
    text = repr(CLAIM) + "".join(repr(_exchange(name)) for name in ("PLAIN", "LOGIN", "XOAUTH2", "CRAM-MD5"))
    assert "tanstaaf" not in text
    assert "vF9dft4qmT" not in text
