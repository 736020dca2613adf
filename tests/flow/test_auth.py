"""AUTH as a conversation: who may speak when, and what each reply means (FAULTS 76 to 85)."""

from __future__ import annotations

import re
import traceback
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drive import Run, Server, Step, drive
from support.scram_server import ScramOverAuth, ScramServer
from support.ticket import Ticket

from pysmtpx.errors import (
    AuthenticationError,
    ConnectionLost,
    InputError,
    MechanismUnavailable,
    NotSupportedError,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.auth import authenticate
from pysmtpx.sasl import mechanisms as sasl
from pysmtpx.sasl.binding import ChannelBinding
from pysmtpx.sasl.credentials import Credentials
from pysmtpx.sasl.mechanisms import MECHANISMS
from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.limits import MAX_AUTH_ROUNDS, Stage

USER = Credentials("user", "hunter2")
TOKEN = Credentials("user", token="s3cr3t-token")
OK = b"235 2.7.0 welcome\r\n"
CANCELLED = (b"*\r\n", b"501 5.7.0 cancelled\r\n")
PLAIN_LINE = b"AUTH PLAIN " + b64encode(b"\0user\0hunter2") + b"\r\n"
XOAUTH2_LINE = b"AUTH XOAUTH2 " + b64encode(b"user=user\1auth=Bearer s3cr3t-token\1\1") + b"\r\n"


def _offering(*mechanisms: str) -> Capabilities:
    return Capabilities({"AUTH": mechanisms})


def _run(
    credentials: Credentials, offered: tuple[str, ...], script: list[Step] | Server, **options: Any
) -> Run:
    options = {"clear": False, "binding": None} | options
    run = drive(authenticate(credentials, _offering(*offered), **options), script)
    assert all(run.secret), "FAULTS 85: a write of AUTH was not marked as secret"
    assert set(run.stages) <= {Stage.AUTH}
    return run


def _error(run: Run, kind: type[SmtpError], *, code: int | None, closed: bool) -> SmtpError:
    """The error, which is exactly of this kind, decided by this reply, and shows no secret (FAULTS 85)."""
    assert type(run.error) is kind, run.error
    assert run.error.stage is Stage.AUTH
    assert (run.error.reply and run.error.reply.code) == code
    assert run.closed is closed
    shown = "".join(traceback.format_exception(run.error)) + repr(run.error)
    for secret in (b"hunter2", b"s3cr3t-token", b"\0user\0hunter2"):
        assert secret.decode() not in shown
        assert b64encode(secret).decode() not in shown
    return run.error


def test_the_name_of_the_mechanism_is_the_result() -> None:
    assert _run(USER, ("LOGIN", "PLAIN"), [(PLAIN_LINE, OK)]).result() == "PLAIN"


def test_login_is_a_conversation() -> None:
    script = [
        (b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"),
        (b64encode(b"user") + b"\r\n", b"334 UGFzc3dvcmQ6\r\n"),
        (b64encode(b"hunter2") + b"\r\n", OK),
    ]
    assert _run(USER, ("LOGIN",), script).result() == "LOGIN"


def test_a_server_without_auth() -> None:
    run = drive(authenticate(USER, Capabilities.none(), clear=False, binding=None), [])
    assert isinstance(run.error, NotSupportedError)
    assert run.error.keyword == "AUTH"


@pytest.mark.parametrize(
    ("credentials", "offered", "options"),
    [
        (USER, ("GSSAPI", "XOAUTH2"), {}),
        (USER, ("PLAIN", "LOGIN"), {"clear": True}),
        (TOKEN, ("XOAUTH2", "OAUTHBEARER"), {"clear": True}),
        (USER, ("SCRAM-SHA-256-PLUS",), {}),
    ],
)
def test_no_mechanism_in_common_is_said_before_a_byte(
    credentials: Credentials, offered: tuple[str, ...], options: dict[str, Any]
) -> None:
    """FAULTS 76."""
    _error(_run(credentials, offered, [], **options), MechanismUnavailable, code=None, closed=False)


def test_a_password_goes_in_clear_where_the_caller_allows_it() -> None:
    """FAULTS 76."""
    run = _run(USER, ("PLAIN",), [(PLAIN_LINE, OK)], clear=True, allow_clear=True)
    assert run.result() == "PLAIN"


def test_a_proof_goes_in_clear_where_a_password_may_not() -> None:
    script = [(b"AUTH CRAM-MD5\r\n", b"334 PDFAeD4=\r\n"), (re.compile(rb"\S+\r\n"), OK)]
    assert _run(USER, ("PLAIN", "CRAM-MD5"), script, clear=True).result() == "CRAM-MD5"


@pytest.mark.parametrize(
    ("code", "temporary"), [(454, True), (432, True), (451, True), (535, False), (534, False), (530, False)]
)
@pytest.mark.parametrize("enhanced", [b"", b"4.7.0 ", b"5.7.8 "])
def test_a_refusal_ends_it_and_the_reply_decides(code: int, temporary: bool, enhanced: bytes) -> None:
    """FAULTS 80: no other mechanism is tried with a refused password; a weak server is no wrong password."""
    run = _run(USER, ("LOGIN", "PLAIN"), [(PLAIN_LINE, b"%d %sno\r\n" % (code, enhanced))])
    assert _error(run, AuthenticationError, code=code, closed=False).temporary is temporary


@pytest.mark.parametrize("code", [500, 501, 502, 503, 550, 554])
def test_any_other_refusal_is_one_too(code: int) -> None:
    """503 says "already authenticated", which is not 235."""
    run = _run(USER, ("LOGIN", "PLAIN"), [(PLAIN_LINE, b"%d no\r\n" % code)])
    _error(run, AuthenticationError, code=code, closed=False)


@pytest.mark.parametrize("code", [504, 538])
def test_a_mechanism_that_the_server_does_not_have_leads_to_the_next(code: int) -> None:
    """FAULTS 80."""
    script = [
        (b"AUTH CRAM-MD5\r\n", b"%d no\r\n" % code),
        (PLAIN_LINE, b"%d no\r\n" % code),
        (b"AUTH LOGIN\r\n", b"334 \r\n"),
        (re.compile(rb"\S+\r\n"), b"334 \r\n"),
        (re.compile(rb"\S+\r\n"), OK),
    ]
    assert _run(USER, ("PLAIN", "LOGIN", "CRAM-MD5"), script).result() == "LOGIN"


def test_a_server_that_has_none_of_what_it_offers() -> None:
    script = [(PLAIN_LINE, b"504 no\r\n"), (b"AUTH LOGIN\r\n", b"538 5.7.11 no\r\n")]
    _error(_run(USER, ("PLAIN", "LOGIN"), script), MechanismUnavailable, code=538, closed=False)


STAGES: list[list[Step]] = [
    [],
    [(b"AUTH LOGIN\r\n", b"334 \r\n")],
    [(b"AUTH LOGIN\r\n", b"334 \r\n"), (re.compile(rb"\S+\r\n"), b"334 \r\n")],
    [(b"AUTH LOGIN\r\n", b"334 !\r\n")],
]
"""LOGIN up to each of its writes, the cancellation among them."""


@pytest.mark.parametrize("before", STAGES)
def test_421_closes_wherever_it_comes(before: list[Step]) -> None:
    run = _run(USER, ("LOGIN",), [*before, (None, b"421 4.3.2 bye\r\n")])
    _error(run, ServiceUnavailable, code=421, closed=True)


@pytest.mark.parametrize("before", STAGES)
@pytest.mark.parametrize("kind", [ConnectionLost, Timeout, ProtocolError])
def test_a_broken_line_is_what_the_caller_hears_of(before: list[Step], kind: type[SmtpError]) -> None:
    run = _run(USER, ("LOGIN",), [*before, (None, kind("broken", stage=Stage.AUTH))])
    assert "broken" in str(_error(run, kind, code=None, closed=False))


@pytest.mark.parametrize("code", [200, 220, 221, 250, 252, 300, 333, 335, 354])
@pytest.mark.parametrize("before", STAGES[:3])
def test_235_alone_is_success(code: int, before: list[Step]) -> None:
    run = _run(USER, ("LOGIN",), [*before, (None, b"%d ok\r\n" % code)])
    _error(run, ProtocolError, code=code, closed=True)


@pytest.mark.parametrize("challenge", [b"334 !\r\n", b"334 QQ\r\n", b"334-QQ==\r\n334 QQ==\r\n", b"334\r\n"])
def test_an_impossible_challenge_is_cancelled_in_step(challenge: bytes) -> None:
    """FAULTS 78."""
    run = _run(USER, ("CRAM-MD5", "PLAIN"), [(b"AUTH CRAM-MD5\r\n", challenge), CANCELLED])
    _error(run, AuthenticationError, code=501, closed=False)


@pytest.mark.parametrize("reply", [b"334 QQ==\r\n", OK, b"250 ok\r\n"])
def test_a_server_that_does_not_heed_the_cancellation_is_left(reply: bytes) -> None:
    """FAULTS 77, 78."""
    run = _run(USER, ("CRAM-MD5",), [(b"AUTH CRAM-MD5\r\n", b"334 !\r\n"), (b"*\r\n", reply)])
    _error(run, AuthenticationError, code=None, closed=True)


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("challenge", [b"334 \r\n", b"334 QUFB\r\n", b"334 !\r\n"])
def test_endless_challenges_end(name: str, challenge: bytes) -> None:
    """FAULTS 77."""
    credentials = Credentials("user", "hunter2", "s3cr3t-token", mechanisms=(name,))
    run = _run(
        credentials, (name,), lambda line: challenge, binding=ChannelBinding("tls-exporter", b"binding")
    )
    _error(run, AuthenticationError, code=None, closed=True)
    assert len(run.sent) <= 1 + MAX_AUTH_ROUNDS + 1
    # SCRAM closes without a word where the challenge is one that only an attacker sends.
    assert run.sent[-1] == b"*\r\n" or (name.startswith("SCRAM") and challenge == b"334 QUFB\r\n")


def test_a_mechanism_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 77: six answers, the asterisk, and no wait for what it brings."""

    def endless(mechanism: sasl.Mechanism, claim: sasl.SaslLogin) -> sasl.Dialogue:
        while True:
            yield b"more"

    monkeypatch.setitem(MECHANISMS, "LOGIN", sasl.Mechanism("LOGIN", endless, sasl.Secret.PASSWORD))
    run = _run(USER, ("LOGIN",), lambda line: b"334 \r\n")
    _error(run, AuthenticationError, code=None, closed=True)
    assert run.sent[1:] == [b"bW9yZQ==\r\n"] * MAX_AUTH_ROUNDS + [b"*\r\n"]


def test_an_initial_response_too_long_for_the_line_goes_in_a_second_step() -> None:
    """FAULTS 81."""
    response = b64encode(b"\0user\0" + b"p" * 600) + b"\r\n"
    script = [(b"AUTH PLAIN\r\n", b"334 \r\n"), (response, OK)]
    assert _run(Credentials("user", "p" * 600), ("PLAIN",), script).result() == "PLAIN"


def test_a_token_too_long_for_any_line_is_refused_before_a_byte() -> None:
    run = _run(Credentials("user", token="t" * 12_288), ("XOAUTH2",), [])
    assert isinstance(run.error, InputError)


# Bearer tokens (FAULTS 79).

REFUSED = b"535 5.7.8 bad token\r\n"
WHY = b"334 " + b64encode(b'{"status":"invalid_token","scope":"x"}') + b"\r\n"


@pytest.mark.parametrize(("name", "acknowledged"), [("XOAUTH2", b"\r\n"), ("OAUTHBEARER", b"AQ==\r\n")])
def test_the_status_of_a_refused_token_is_in_the_error(name: str, acknowledged: bytes) -> None:
    script = [(re.compile(b"AUTH %b .*\r\n" % name.encode()), WHY), (acknowledged, REFUSED)]
    error = _error(_run(TOKEN, (name,), script), AuthenticationError, code=535, closed=False)
    assert "invalid_token" in str(error)


def test_oauthbearer_names_host_and_port() -> None:
    response = b"n,a=user,\1host=mx.test\1port=587\1auth=Bearer s3cr3t-token\1\1"
    script = [(b"AUTH OAUTHBEARER " + b64encode(response) + b"\r\n", OK)]
    run = _run(TOKEN, ("XOAUTH2", "OAUTHBEARER"), script, host="mx.test", port=587)
    assert run.result() == "OAUTHBEARER"


def _token_line(token: str) -> bytes:
    return b"AUTH XOAUTH2 " + b64encode(f"user=user\1auth=Bearer {token}\1\1".encode()) + b"\r\n"


def _provider(*tokens: str) -> tuple[Credentials, Callable[[], list[str]]]:
    left = list(tokens)
    return Credentials("user", token=lambda: left.pop(0)), lambda: left


@pytest.mark.parametrize("refusal", [[(None, REFUSED)], [(None, WHY), (b"\r\n", REFUSED)]])
def test_a_refused_token_is_fetched_anew_once(refusal: list[Step]) -> None:
    credentials, left = _provider("old", "new", "unused")
    run = _run(credentials, ("XOAUTH2",), [*refusal, (_token_line("new"), OK)])
    assert run.result() == "XOAUTH2"
    assert left() == ["unused"]


def test_the_second_refusal_stands() -> None:
    credentials, left = _provider("old", "new", "unused")
    run = _run(credentials, ("XOAUTH2",), [(_token_line("old"), REFUSED), (_token_line("new"), REFUSED)])
    _error(run, AuthenticationError, code=535, closed=False)
    assert left() == ["unused"]


def test_the_same_token_is_not_tried_twice() -> None:
    credentials, _ = _provider("old", "old")
    run = _run(credentials, ("XOAUTH2",), [(_token_line("old"), REFUSED)])
    _error(run, AuthenticationError, code=535, closed=False)


@pytest.mark.parametrize("code", [454, 534])
def test_only_a_refused_token_is_fetched_anew(code: int) -> None:
    """FAULTS 80: a server that cannot check just now leaves the token as good as it was."""
    credentials, left = _provider("old", "unused")
    run = _run(credentials, ("XOAUTH2",), [(_token_line("old"), b"%d later\r\n" % code)])
    _error(run, AuthenticationError, code=code, closed=False)
    assert left() == ["unused"]


def test_one_token_serves_both_mechanisms() -> None:
    credentials, left = _provider("old", "unused")
    script = [(re.compile(rb"AUTH OAUTHBEARER .*\r\n"), b"504 no\r\n"), (_token_line("old"), OK)]
    assert _run(credentials, ("OAUTHBEARER", "XOAUTH2"), script).result() == "XOAUTH2"
    assert left() == ["unused"]


# SCRAM over AUTH (FAULTS 82, 83).

BINDING = ChannelBinding("tls-server-end-point", b"hash of the certificate")


@settings(max_examples=20)
@given(st.sampled_from(["SCRAM-SHA-256", "SCRAM-SHA-1"]), st.booleans(), st.booleans())
def test_scram_logs_in(name: str, plus: bool, in_235: bool) -> None:
    name += "-PLUS" if plus else ""
    server = ScramServer("user", "hunter2", MECHANISMS[name].digest, binding=BINDING.data if plus else None)
    run = _run(USER, (name, "PLAIN"), ScramOverAuth(server, in_235=in_235), binding=BINDING)
    assert run.result() == name
    assert server.gs2_flag == ("p=tls-server-end-point" if plus else "y")


@pytest.mark.parametrize(
    ("offered", "binding", "flag"),
    [
        (("SCRAM-SHA-256",), None, "n"),
        (("SCRAM-SHA-256",), BINDING, "y"),
        (("SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"), None, "n"),
        (("SCRAM-SHA-256", "SCRAM-SHA-384-PLUS"), BINDING, "n"),
    ],
)
def test_a_struck_out_plus_is_told_to_the_server(
    offered: tuple[str, ...], binding: ChannelBinding | None, flag: str
) -> None:
    """FAULTS 83."""
    server = ScramServer("user", "hunter2")
    run = _run(USER, offered, ScramOverAuth(server), binding=binding)
    assert run.result() == "SCRAM-SHA-256"
    assert server.gs2_flag == flag


@pytest.mark.parametrize("in_235", [False, True])
def test_a_server_that_does_not_know_the_password_is_left(in_235: bool) -> None:
    """FAULTS 82: it says e= or makes up a signature; either way not one more octet."""
    run = _run(USER, ("SCRAM-SHA-256",), ScramOverAuth(ScramServer("user", "other"), in_235=in_235))
    _error(run, AuthenticationError, code=None, closed=True)


FIRST = re.compile(rb"AUTH SCRAM-SHA-256 \S+\r\n")


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        (b"r=replayed,s=QSXCR+Q6sek8bf92,i=4096", "nonce"),
        (b"e=unknown-user", "unknown-user"),
        (b"nonsense", "malformed"),
    ],
)
def test_a_server_that_breaks_scram_is_left(challenge: bytes, why: str) -> None:
    """FAULTS 82."""
    run = _run(USER, ("SCRAM-SHA-256", "PLAIN"), [(FIRST, b"334 " + b64encode(challenge) + b"\r\n")])
    assert why in str(_error(run, AuthenticationError, code=None, closed=True))


def test_235_before_any_proof_is_a_lie() -> None:
    """FAULTS 82."""
    _error(_run(USER, ("SCRAM-SHA-256",), [(FIRST, OK)]), AuthenticationError, code=None, closed=True)


def test_235_without_the_proof_is_a_lie() -> None:
    """FAULTS 82."""
    served = ScramOverAuth(ScramServer("user", "hunter2"))
    served.steps[1] = lambda line: OK
    _error(_run(USER, ("SCRAM-SHA-256",), served), AuthenticationError, code=None, closed=True)


def test_a_refused_scram_password_is_a_plain_refusal() -> None:
    """FAULTS 80: Dovecot and Postfix answer a wrong proof with 535, and no weaker mechanism is tried."""
    served = ScramOverAuth(ScramServer("user", "other"))
    served.steps[1] = lambda line: REFUSED
    run = _run(USER, ("SCRAM-SHA-256", "PLAIN"), served)
    _error(run, AuthenticationError, code=535, closed=False)


# A server that binds by another type (FAULTS 118).

PLUS = re.compile(rb"AUTH SCRAM-SHA-(256|1)-PLUS \S+\r\n")


class _RefusesBinding:
    """Turns down every mechanism that binds by this reply, and serves the plain one."""

    def __init__(self, reply: bytes, *, knows: str = "hunter2") -> None:
        self.reply = reply
        self.lines: list[bytes] = []
        self.server = ScramServer("user", knows)
        self._plain = ScramOverAuth(self.server)

    def __call__(self, line: bytes) -> bytes:
        self.lines.append(line)
        if PLUS.fullmatch(line):
            return self.reply
        return (
            REFUSED
            if len(self._plain.steps) == 2 and self.server.password != "hunter2"
            else self._plain(line)
        )


@pytest.mark.parametrize("code", [501, 535])
@pytest.mark.parametrize(
    "offered",
    [
        ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
        ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "PLAIN"),
        ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_binding_that_is_refused_at_once_leads_to_the_plain_scram(
    named: bool, offered: tuple[str, ...], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS 118: once, and the log says so; the server is told that we do not bind."""
    served = _RefusesBinding(b"%d 5.5.4 no\r\n" % code)
    credentials = Credentials("user", "hunter2", mechanisms=offered if named else ())
    assert _run(credentials, offered, served, binding=BINDING).result() == "SCRAM-SHA-256"
    assert sum(line.startswith(b"AUTH") for line in served.lines) == 2
    assert served.server.gs2_flag == "n"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "channel binding, tls-server-end-point: SCRAM-SHA-256 is tried" in caplog.text


@pytest.mark.parametrize("code", [501, 535])
@pytest.mark.parametrize("offered", [("SCRAM-SHA-256-PLUS", "PLAIN", "CRAM-MD5"), ("SCRAM-SHA-256-PLUS",)])
def test_a_binding_that_is_refused_leads_to_nothing_weaker(code: int, offered: tuple[str, ...]) -> None:
    """FAULTS 118, 80: no password, and no proof to whoever asks."""
    run = _run(USER, offered, [(PLUS, b"%d no\r\n" % code)], binding=BINDING)
    _error(run, AuthenticationError, code=code, closed=False)


@pytest.mark.parametrize("code", [501, 535])
def test_whoever_names_the_binding_alone_gets_nothing_else(code: int) -> None:
    """FAULTS 118."""
    names = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
    credentials = Credentials("user", "hunter2", mechanisms=names)
    run = _run(credentials, (*names, "SCRAM-SHA-256"), [(PLUS, b"%d no\r\n" % code)], binding=BINDING)
    error = _error(run, AuthenticationError, code=code, closed=False)
    assert "perhaps for the kind of channel binding, tls-server-end-point" in str(error)
    assert "has no tls-exporter" in error.cure


def test_where_there_is_nothing_to_bind_to_the_error_says_what_python_lacks() -> None:
    credentials = Credentials("user", "hunter2", mechanisms=("SCRAM-SHA-512-PLUS",))
    error = _error(
        _run(credentials, ("SCRAM-SHA-512-PLUS",), []), MechanismUnavailable, code=None, closed=False
    )
    assert "needs a TLS channel that can be bound to" in str(error)
    assert "has no tls-exporter" in error.cure


def test_a_wrong_password_is_tried_no_third_time() -> None:
    """FAULTS 118, 80."""
    served = _RefusesBinding(REFUSED, knows="other")
    offered = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
    run = _run(USER, offered, served, binding=BINDING)
    _error(run, AuthenticationError, code=535, closed=False)
    assert sum(line.startswith(b"AUTH") for line in served.lines) == 2


@pytest.mark.parametrize("code", [501, 535])
def test_a_refusal_after_the_proof_is_about_the_password(code: int) -> None:
    """FAULTS 118, 80."""
    served = ScramOverAuth(ScramServer("user", "other", binding=BINDING.data))
    served.steps[1] = lambda line: b"%d no\r\n" % code
    run = _run(USER, ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), served, binding=BINDING)
    _error(run, AuthenticationError, code=code, closed=False)


# Prompts (FAULTS 117).


@pytest.mark.parametrize(
    "prompt",
    [b"334 Username:\r\n", b"334 VXNlcm5hbWU6Cg\r\n", b"334-Welcome\r\n334 Username:\r\n", b"334\r\n"],
)
def test_the_prompts_of_login_mean_nothing(prompt: bytes) -> None:
    """FAULTS 117."""
    script = [
        (b"AUTH LOGIN\r\n", prompt),
        (b64encode(b"user") + b"\r\n", prompt),
        (b64encode(b"hunter2") + b"\r\n", OK),
    ]
    assert _run(USER, ("LOGIN",), script).result() == "LOGIN"


@pytest.mark.parametrize("prompt", [b"334 go on\r\n", b"334 QQ==\r\n", b"334-go\r\n334 on\r\n", b"334\r\n"])
def test_whatever_is_said_before_a_held_initial_response(prompt: bytes) -> None:
    """FAULTS 117, 81."""
    response = b64encode(b"\0user\0" + b"p" * 600) + b"\r\n"
    script = [(b"AUTH PLAIN\r\n", prompt), (response, OK)]
    assert _run(Credentials("user", "p" * 600), ("PLAIN",), script).result() == "PLAIN"


@pytest.mark.parametrize(
    ("credentials", "name", "said", "unsaid"),
    [
        (USER, "PLAIN", "password", "new token"),
        (USER, "LOGIN", "password", "certificate"),
        (USER, "CRAM-MD5", "password", "certificate"),
        (USER, "SCRAM-SHA-256", "password", "certificate"),
        (TOKEN, "XOAUTH2", "new token", "password"),
        (TOKEN, "OAUTHBEARER", "new token", "password"),
        (Credentials("user"), "EXTERNAL", "client_certificate", "app password"),
        (Credentials("user", mechanisms=(Ticket(),)), "X-TICKET", "mechanism", "password"),
    ],
)
def test_the_cure_of_a_refusal_names_what_was_used(
    credentials: Credentials, name: str, said: str, unsaid: str
) -> None:
    """535 says as little for a certificate as for a password."""
    run = _run(credentials, (name,), lambda line: b"535 5.7.8 no\r\n")
    assert isinstance(run.error, AuthenticationError)
    assert said in run.error.cure
    assert unsaid not in run.error.cure
