"""A mechanism of the caller's own: what is taken for one, where it may go, and what is shown of it."""

from __future__ import annotations

import pickle
import re
from base64 import b64decode, b64encode
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest
from support.drive import drive
from support.ticket import KEY, Ticket, Tickets, answer

import pysmtpx
from pysmtpx import AuthenticationError, InputError, MechanismUnavailable, SaslLogin, Server
from pysmtpx.flow.auth import authenticate
from pysmtpx.sasl.credentials import Credentials
from pysmtpx.smtplib import SMTP
from pysmtpx.testing import Config, MailServer
from pysmtpx.wire.capabilities import Capabilities

ONCE = pysmtpx.RetryPolicy(attempts=1)
OK = b"235 2.7.0 welcome\r\n"


class Pass:
    """An initial response with a secret in it."""

    name = "X-PASS"
    reveals = True
    proves_server = False

    def dialogue(self, login: SaslLogin) -> Generator[bytes | None, bytes, None]:
        yield b"pass=s3cr3t-of-its-own " + login.password.encode()


class Mutual:
    """The server owes a proof, in its last challenge or with the 235."""

    name = "X-MUTUAL"
    reveals = False
    proves_server = True

    def dialogue(self, login: SaslLogin) -> Generator[bytes | None, bytes, None]:
        proof = yield b"hello"
        if proof != b"proof":
            raise AuthenticationError("the server proved nothing")
        yield b""


def encoded(octets: bytes) -> bytes:
    return b64encode(octets)


def said(line: bytes) -> bytes:
    return b64decode(line.split(b" ")[-1])


def run(mechanism: Any, script: Any, **options: Any) -> Any:
    credentials = options.pop("credentials", None) or Credentials("ann", mechanisms=(mechanism, "PLAIN"))
    offered = Capabilities({"AUTH": (mechanism.name,)})
    return drive(authenticate(credentials, offered, **{"clear": False, "binding": None} | options), script)


def test_the_server_speaks_first() -> None:
    proof = encoded(answer("ann", b"nonce")) + b"\r\n"
    script = [(b"AUTH X-TICKET\r\n", b"334 " + encoded(b"nonce") + b"\r\n"), (proof, OK)]
    assert run(Ticket(), script).result() == "X-TICKET"


def test_an_initial_response() -> None:
    line = b"AUTH X-PASS " + encoded(b"pass=s3cr3t-of-its-own ") + b"\r\n"
    assert run(Pass(), [(line, OK)]).result() == "X-PASS"


@pytest.mark.parametrize("exposed", [True, False])
@pytest.mark.parametrize("mechanism", [Ticket(), Pass()], ids=["proof", "secret"])
def test_what_may_be_used_again_goes_over_no_clear_line(mechanism: Any, exposed: bool) -> None:
    credentials = Credentials("ann", mechanisms=(mechanism,))
    if exposed and mechanism.reveals:
        with pytest.raises(MechanismUnavailable, match="X-PASS would show the secret to a line without TLS"):
            credentials.usable((mechanism.name,), exposed=exposed, binding=None)
    else:
        (found,) = credentials.usable((mechanism.name,), exposed=exposed, binding=None)
        assert found.name == mechanism.name
    assert credentials.may_reveal is mechanism.reveals


def test_it_stands_where_the_caller_put_it() -> None:
    offered = ("PLAIN", "X-TICKET", "SCRAM-SHA-256", "LOGIN")
    credentials = Credentials("ann", "pencil", mechanisms=("scram-sha-256", Ticket(), "PLAIN"))
    usable = credentials.usable(offered, exposed=False, binding=None)
    assert [each.name for each in usable] == ["SCRAM-SHA-256", "X-TICKET", "PLAIN"]


def test_the_next_is_tried_if_the_server_has_it_not_after_all() -> None:
    credentials = Credentials("ann", "pencil", mechanisms=(Ticket(), "PLAIN"))
    plain = b"AUTH PLAIN " + encoded(b"\0ann\0pencil") + b"\r\n"
    script = [(b"AUTH X-TICKET\r\n", b"504 no\r\n"), (plain, OK)]
    offered = Capabilities({"AUTH": ("X-TICKET", "PLAIN")})
    assert drive(authenticate(credentials, offered, clear=False, binding=None), script).result() == "PLAIN"


# -- a server that proves itself too ----------------------------------------------------------

HELLO = b"AUTH X-MUTUAL " + encoded(b"hello") + b"\r\n"


@pytest.mark.parametrize(
    "script",
    [
        [(HELLO, b"334 " + encoded(b"proof") + b"\r\n"), (b"\r\n", OK)],
        [(HELLO, b"235 2.7.0 " + encoded(b"proof") + b"\r\n")],
    ],
    ids=["in a challenge", "with the 235"],
)
def test_a_server_that_proves_itself(script: Any) -> None:
    assert run(Mutual(), script).result() == "X-MUTUAL"


def test_a_server_that_accepts_without_its_proof_is_left() -> None:
    login = run(Mutual(), [(HELLO, OK)])
    with pytest.raises(AuthenticationError, match="the server proved nothing"):
        login.result()
    assert login.closed


def test_a_proof_that_is_wrong_cancels_the_exchange() -> None:
    login = run(Mutual(), [(HELLO, b"334 " + encoded(b"poof") + b"\r\n"), (b"*\r\n", b"501 cancelled\r\n")])
    with pytest.raises(AuthenticationError, match="the server proved nothing") as caught:
        login.result()
    assert caught.value.stage == "auth"
    assert not login.closed


# -- what is no mechanism -----------------------------------------------------------------------


class Broken:
    name = "X-BROKEN"
    reveals = True
    proves_server = False

    def __init__(self, dialogue: Any) -> None:
        self.dialogue = dialogue


def gives_up(login: SaslLogin) -> Generator[bytes, bytes, None]:
    raise AuthenticationError("no ticket is left")
    yield b""


@pytest.mark.parametrize(
    ("dialogue", "error", "text"),
    [
        (lambda login: [b"a"], InputError, "dialogue is no generator"),
        (lambda login: (each for each in ["text"]), InputError, "must answer with bytes, not str"),
        (gives_up, AuthenticationError, "no ticket is left"),
    ],
)
def test_nothing_is_written_where_it_does_not_work(dialogue: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        run(Broken(dialogue), []).result()


def test_a_challenge_after_its_end_cancels_the_exchange() -> None:
    script = [(b"AUTH X-BROKEN\r\n", b"334 \r\n"), (b"*\r\n", b"501 cancelled\r\n")]
    login = run(Broken(lambda login: (each for each in ())), script)
    with pytest.raises(AuthenticationError, match="a challenge came after the last answer"):
        login.result()


def goes_on(login: SaslLogin) -> Generator[bytes, bytes, None]:
    while True:
        yield b"again"


def test_endless_challenges_end() -> None:
    """FAULTS 77."""
    login = run(Broken(goes_on), lambda line: b"334 \r\n")
    with pytest.raises(AuthenticationError, match=r"more than \d+ challenges"):
        login.result()
    assert login.closed


def too_long(login: SaslLogin) -> Generator[bytes, bytes, None]:
    yield b"a"
    yield b"x" * 12_288


def test_an_answer_that_no_line_can_carry_ends_the_session_with_nothing_of_it_written() -> None:
    login = run(Broken(too_long), [(re.compile(rb"AUTH X-BROKEN .*\r\n"), b"334 \r\n")])
    with pytest.raises(InputError) as caught:
        login.result()
    assert "xxx" not in str(caught.value)


def test_a_long_initial_response_answers_an_empty_challenge() -> None:
    """RFC 4954 4: the AUTH line has 512 octets."""
    long = b"s3cr3t" * 200
    script = [(b"AUTH X-BROKEN\r\n", b"334 \r\n"), (encoded(long) + b"\r\n", OK)]
    assert run(Broken(lambda login: (each for each in [long])), script).result() == "X-BROKEN"


def test_a_token_that_is_fetched_is_fetched_anew_once_it_is_refused() -> None:
    """As for a mechanism of ours."""
    tokens = iter(["old", "new"])

    def bearer(login: SaslLogin) -> Generator[bytes, bytes, None]:
        yield login.token.encode()

    own = Broken(bearer)
    credentials = Credentials("ann", token=lambda: next(tokens), mechanisms=(own,))
    script = [
        (b"AUTH X-BROKEN " + encoded(b"old") + b"\r\n", b"535 5.7.8 expired\r\n"),
        (b"AUTH X-BROKEN " + encoded(b"new") + b"\r\n", OK),
    ]
    assert run(own, script, credentials=credentials).result() == "X-BROKEN"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Ticket, r"as an object: Ticket\(\)"),
        (object(), "object is no SASL mechanism: it has no name and no reveals and no proves_server"),
        (type("Odd", (Ticket,), {"name": "x ticket"})(), "not the name of a SASL mechanism"),
        (type("Odd", (Ticket,), {"name": "X" * 21})(), "not the name of a SASL mechanism"),
        (type("Odd", (Ticket,), {"name": 1})(), "not the name of a SASL mechanism"),
        (["PLAIN", object()], "is no SASL mechanism"),
        ("X-TICKET", "no such SASL mechanism: 'X-TICKET'"),
    ],
)
def test_what_is_no_mechanism_is_told_before_anything_is_dialled(value: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        Server("mail.example.org", username="ann", password="x", auth=value)


# -- on a Server ----------------------------------------------------------------------------------


def test_a_server_needs_no_other_secret() -> None:
    server = Server("mail.example.org", auth=Ticket())
    assert server.credentials is not None
    assert Server("mail.example.org", username="ann", auth=(Ticket(), "PLAIN")).credentials is not None


def test_nothing_of_it_is_in_a_repr_or_a_url() -> None:
    server = Server("mail.example.org", username="ann", auth=("PLAIN", Ticket()))
    assert "auth=('PLAIN', 'X-TICKET')" in repr(server)
    assert KEY.decode() not in repr(server)
    assert server.url == "smtp://ann@mail.example.org:587?auth=PLAIN"
    assert server.replace(port=2525).auth == server.auth


def test_a_server_with_one_can_be_pickled() -> None:
    (own,) = pickle.loads(pickle.dumps(Server("mail.example.org", auth=Ticket()))).auth
    assert own.name == "X-TICKET"


# -- a whole session --------------------------------------------------------------------------------


def x_pass(event: Any) -> str | None:
    """Speak X-PASS as a server: 235 to anything, or a refusal that quotes it."""
    if event.verb == "AUTH":
        return "535 5.7.8 no such pass: s3cr3t-of-its-own, cGFzcz1zM2NyM3Qtb2YtaXRzLW93biA="
    return None


def serving(**options: Any) -> MailServer:
    return MailServer(**{"mechanisms": ["X-PASS"], "users": {"ann": "pencil"}, **options})


def test_nothing_that_it_says_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "pysmtpx")
    with serving(verdict=x_pass) as server, pytest.raises(AuthenticationError) as caught:
        pysmtpx.connect(server.host, server.port, auth=Pass())
    shown = str(caught.value) + repr(caught.value) + str(caught.value.transcript) + caplog.text
    assert "X-PASS was refused" in shown
    assert "Check what your mechanism says" in shown
    assert "password" not in shown
    assert "s3cr3t" not in shown
    assert "cGFzcz" not in shown


def accepted(event: Any) -> str | None:
    return "235 2.7.0 welcome" if event.verb == "AUTH" else None


def test_a_connection_and_a_pool_log_in_by_it() -> None:
    """One object serves the log-ins of several threads."""
    tickets, own = Tickets(), Ticket()
    with serving(mechanisms=["X-TICKET"], verdict=tickets) as server:
        with pysmtpx.connect(server.host, server.port, username="ann", auth=own) as connection:
            connection.noop()
        mails = [pysmtpx.MailObject("a@x.example", "b@y.example", b"S: x\r\n\r\n.")] * 8
        with pysmtpx.SmtpPool(server.host, port=server.port, auth=[own], max_connections=2) as pool:
            assert [outcome.status for outcome in pool.send_many(mails)] == ["accepted"] * 8
        assert len(server.messages) == 8
    assert tickets.count >= 2


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_it_serves_both_protocols(protocol: Any) -> None:
    tickets = Tickets()
    with serving(mechanisms=["X-TICKET"], verdict=tickets, protocol=protocol) as server:
        with pysmtpx.connect(server.url, username="ann", auth=Ticket()) as connection:
            assert connection.mechanism == "X-TICKET"
            connection.send_message(b"From: a@x.example\r\nTo: b@y.example\r\n\r\n.\r\n")
        assert len(server.messages) == tickets.count == 1


def test_the_face_of_smtplib_has_its_own_way_to_one() -> None:
    tickets = Tickets()
    with serving(mechanisms=["X-TICKET"], verdict=tickets) as server, SMTP(server.host, server.port) as smtp:
        smtp.ehlo()
        ticket = Ticket().dialogue(SaslLogin(username="ann"))
        reply = smtp.auth("X-TICKET", lambda *given: ticket.send(*given) if given else next(ticket))
        assert reply[0] == 235
    assert tickets.count == 1


def test_what_goes_wrong_in_it_reaches_the_caller() -> None:
    def broken(login: SaslLogin) -> Generator[bytes, bytes, None]:
        yield b"a"[7:8] + bytes(1 // 0)

    with serving(mechanisms=["X-BROKEN"], verdict=accepted) as server:
        with pytest.raises(ZeroDivisionError) as caught:
            pysmtpx.connect(server.host, server.port, auth=Broken(broken))
        (note,) = caught.value.__notes__
        assert re.fullmatch(r"in the dialogue of X-BROKEN: .*test_own\.py:\d+", note)
        with pysmtpx.SmtpPool(server.host, port=server.port, auth=Broken(broken), retry=ONCE) as pool:
            with pytest.raises(ZeroDivisionError):
                pool.send("a@x.example", "b@y.example", b"S: x\r\n\r\n.")
            future = pool.submit(pysmtpx.MailObject("a@x.example", "b@y.example", b"S: x\r\n\r\n."))
            error = future.exception(60)
            assert isinstance(error, pysmtpx.ConnectError)
            assert isinstance(error.__cause__, ZeroDivisionError)


@dataclass
class Unhashable(Pass):
    """As a dataclass is, unless it is frozen."""

    key: str = "k"


def test_it_need_not_have_a_hash() -> None:
    with serving(verdict=accepted) as server:
        where = Server(server.host, server.port, auth=Unhashable())
        with pysmtpx.SmtpPool([where, where.replace(port=server.port)]) as pool:
            pool.send("a@x.example", "b@y.example", b"S: x\r\n\r\n.")
            assert pool.submit(pysmtpx.MailObject("a@x.example", "b@y.example", b"S: x\r\n\r\n.")).result(60)
        assert len(server.messages) == 2


def test_the_config_of_the_embedded_server_has_every_mechanism_of_ours() -> None:
    from pysmtpx.sasl.mechanisms import MECHANISMS
    from pysmtpx.testing.config import MECHANISMS as SERVED

    assert set(MECHANISMS) == set(SERVED)
    assert Config().mechanisms is None
