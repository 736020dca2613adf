"""What a server takes on one connection: the rest is unsent, and told so (RFC 9422 4.1, 4.3)."""

from __future__ import annotations

from typing import Any

import pytest
from support.fates import BODY, SENDER, attempt, fates
from support.transports import SEQUENTIAL, dialled, serving

from pysmtpx import MailObject, NotSupportedError, SenderRejected, SessionLimitReached, connect
from pysmtpx.testing import EXTENSIONS, Event

PATHS = pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])
METHODS = ["send", "send_bdat", "send_lmtp", "send_lmtp_bdat"]


def served(limits: str, extensions: Any = EXTENSIONS, **options: Any) -> Any:
    return serving(extensions=[*extensions, f"LIMITS {limits}"], **options)


def assert_reached(error: Any, *unsent: str) -> None:
    assert type(error) is SessionLimitReached, error
    assert error.unsent_recipients == unsent
    assert error.temporary
    assert "another connection" in error.cure


@PATHS
@pytest.mark.parametrize("method", METHODS)
def test_other_domains_are_unsent(method: str, extensions: Any) -> None:
    """FAULTS 22: nothing is written for them, and the connection goes on for the domains that it has."""
    protocol = "lmtp" if "lmtp" in method else "smtp"
    with (
        served("RCPTDOMAINMAX=1", extensions, protocol=protocol) as server,
        dialled(server) as conn,
    ):
        error = attempt(getattr(conn, method), SENDER, ["a@x.example", "b@y.example", "c@X.example"], BODY)
        assert_reached(error, "b@y.example")
        assert error.accepted_recipients == ("a@x.example", "c@X.example")
        assert not error.safe_to_retry, "two have it"
        assert not conn.closed
        error = attempt(getattr(conn, method), SENDER, "b@y.example", BODY)
        assert_reached(error, "b@y.example")
        assert error.safe_to_retry
        assert attempt(getattr(conn, method), SENDER, "d@x.example", BODY).accepted_recipients
    server.ledger.assert_clean()
    assert "421" not in str(server.ledger.connections[0].ending)


@PATHS
def test_neither_rset_nor_a_refusal_begins_the_session_anew(extensions: Any) -> None:
    refuse = lambda event: "550 no" if event.verb == "RCPT" and event.address[0] == "n" else None  # noqa: E731
    with served("RCPTDOMAINMAX=2", extensions, verdict=refuse) as server, dialled(server) as conn:
        assert fates(attempt(conn.send, SENDER, "no@x.example", BODY)) == {
            "no@x.example": "rejected 550 rcpt"
        }
        conn.rset()
        conn.send(SENDER, "a@y.example", BODY)
        conn.rset()
        assert_reached(attempt(conn.send, SENDER, "a@z.example", BODY), "a@z.example")
        conn.send(SENDER, "a@x.example", BODY)
        with dialled(server) as other:
            other.send(SENDER, "a@z.example", BODY)
    server.ledger.assert_clean()


def test_what_was_not_written_does_not_count() -> None:
    """Sequentially no RCPT follows a refused MAIL."""
    refuse = lambda event: "451 4.7.1 later" if event.verb == "MAIL" and not event.transaction else None  # noqa: E731
    with served("RCPTDOMAINMAX=1", SEQUENTIAL, verdict=refuse) as server, dialled(server) as conn:
        attempt(conn.send, SENDER, "a@x.example", BODY)
        conn.send(SENDER, "a@y.example", BODY)


@PATHS
def test_no_more_transactions_than_it_takes(extensions: Any) -> None:
    """MAILMAX counts MAIL, so that RCPTMAX uses it up as well."""
    paths = [f"r{number}@x.example" for number in range(5)]
    with served("MAILMAX=3 RCPTMAX=2", extensions) as server, dialled(server) as conn:
        conn.send(SENDER, paths[:1], BODY)
        error = attempt(conn.send, SENDER, paths, BODY)
        assert_reached(error, "r4@x.example")
        assert len(error.accepted_recipients) == 4
        assert_reached(attempt(conn.send, SENDER, "a@x.example", BODY), "a@x.example")
        conn.noop()
    server.ledger.assert_clean()


@pytest.mark.parametrize("options", [{}, {"overlap": True}, {"in_flight": 4}], ids=str)
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("kind", [list, iter])
def test_a_stream_goes_on_with_what_has_room(kind: Any, protocol: str, options: Any) -> None:
    """Each message is told, in order; those that fit are sent behind those that do not."""
    to = [["x"], ["y"], ["x", "y"], ["y", "z"], ["z"], ["x"], ["y", "z", "x"]]
    sent = [MailObject(SENDER, [f"r@{domain}.example" for domain in each], BODY) for each in to]
    with served("RCPTDOMAINMAX=2", protocol=protocol) as server, dialled(server) as conn:
        outcomes = list(conn.send_many(kind(sent), **options))
        assert [outcome.mail for outcome in outcomes] == sent
        for each, outcome in zip(sent, outcomes, strict=True):
            elsewhere = tuple(path for path in each.recipients if path.endswith("z.example"))
            assert outcome.unsent_recipients == elsewhere
            assert outcome.accepted_recipients == tuple(set_apart(each.recipients, elsewhere))
            if elsewhere:
                assert_reached(outcome.error, *elsewhere)
        assert [outcome.status for outcome in outcomes] == [
            *["accepted"] * 4,
            "unsent",
            *["accepted"] * 2,
        ]
        assert not conn.closed
    server.ledger.assert_clean()


def set_apart(recipients: tuple[str, ...], elsewhere: tuple[str, ...]) -> list[str]:
    return [path for path in recipients if path not in elsewhere]


@pytest.mark.parametrize("options", [{}, {"overlap": True}, {"in_flight": 4}], ids=str)
def test_a_stream_over_the_number_of_transactions(options: Any) -> None:
    sent = [MailObject(SENDER, f"r{number}@x.example", BODY) for number in range(6)]
    with served("MAILMAX=4") as server, dialled(server) as conn:
        outcomes = list(conn.send_many(sent, **options))
        assert [outcome.status for outcome in outcomes] == ["accepted"] * 4 + ["unsent"] * 2
        assert all(type(outcome.error) is SessionLimitReached for outcome in outcomes[4:])
    server.ledger.assert_clean()


def test_what_is_stated_after_starttls_counts() -> None:
    """FAULTS 75: what stood in the first EHLO is forgotten."""

    def verdict(event: Event) -> str | None:
        if event.verb != "EHLO":
            return None
        if b"STARTTLS" in event.reply:
            return "250-mail.example\r\n250-STARTTLS\r\n250 LIMITS RCPTDOMAINMAX=1 MAILMAX=1"
        return "250-mail.example\r\n250 LIMITS RCPTDOMAINMAX=2"

    with serving("starttls", verdict=verdict) as server, dialled(server) as conn:
        assert conn.is_tls
        assert conn.capabilities.limits == {"RCPTDOMAINMAX": "2"}
        for domain in ("x", "y"):
            conn.send(SENDER, f"a@{domain}.example", BODY)
        assert_reached(attempt(conn.send, SENDER, "a@z.example", BODY), "a@z.example")


def test_what_must_go_together_is_unsent_together() -> None:
    """Another connection has room for it; what has none on any is not supported."""
    with served("RCPTDOMAINMAX=2") as server, dialled(server) as conn:
        conn.send(SENDER, "a@x.example", BODY)
        paths = ("a@y.example", "a@z.example")
        assert_reached(attempt(conn.send, SENDER, paths, BODY, all_or_nothing=True), *paths)
        assert_reached(attempt(conn.send, SENDER, paths, iter([BODY])), *paths)
        paths = (*paths, "a@x.example")
        error = attempt(conn.send, SENDER, paths, BODY, all_or_nothing=True)
        assert type(error) is NotSupportedError
        assert "at 2 domains on one connection" in str(error)
    server.ledger.assert_clean()


def test_mailboxes_without_a_domain_are_of_one() -> None:
    """They are at the server's own, which is none of those that are named."""
    with (
        served("RCPTDOMAINMAX=1", protocol="lmtp", local_mailboxes=True) as server,
        dialled(server) as conn,
    ):
        conn.send_lmtp(SENDER, ["alice", "bob", "postmaster"], BODY)
        assert_reached(attempt(conn.send_lmtp, SENDER, "a@x.example", BODY), "a@x.example")
        conn.send_lmtp(SENDER, ["eve"], BODY)
    server.ledger.assert_clean()


def test_to_try_an_envelope_counts() -> None:
    """Its MAIL and RCPT are commands as any other."""
    with served("RCPTDOMAINMAX=1 MAILMAX=3") as server, dialled(server) as conn:
        assert [reply.code for reply in conn.try_envelope(SENDER, "a@x.example")] == [250, 250]
        assert_reached(attempt(conn.try_envelope, SENDER, ["a@y.example"]), "a@y.example")
        assert_reached(attempt(conn.send, SENDER, "a@y.example", BODY), "a@y.example")
        conn.send(SENDER, "a@x.example", BODY)
        conn.try_envelope(SENDER)
        assert_reached(attempt(conn.try_envelope, SENDER))
    server.ledger.assert_clean()


def test_a_server_that_takes_more_than_it_says() -> None:
    """``without``, as the cure says; this server says 501 then, since it means what it says."""
    with served("MAILMAX=1") as server:
        with connect(server.url, without=["LIMITS"]) as conn:
            conn.send(SENDER, "a@x.example", BODY)
            assert type(attempt(conn.send, SENDER, "a@x.example", BODY)) is SenderRejected
        server.ledger.breaches.clear()
