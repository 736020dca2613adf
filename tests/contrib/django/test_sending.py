"""``send_mail`` and its kin over the pool: what arrives, what it costs, what is told of each message."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail, send_mass_mail
from django.test.utils import override_settings
from support import certs
from support.busy import until
from support.daemon import CLOSED_PORT
from support.patience import ENOUGH, LONG
from support.pools import Hold, in_threads

import pysmtpx
from pysmtpx.contrib.django import EmailBackend, message_sent
from pysmtpx.contrib.django.message import mail_object
from pysmtpx.contrib.pools import close_pools
from pysmtpx.testing import MailServer

pytestmark = pytest.mark.everywhere

REFUSE = {"bad@x.example": "550 5.1.1 unknown", "later@x.example": "450 4.2.0 later"}
FIXED = {"Date": "Tue, 24 Nov 2026 12:00:00 +0000", "Message-ID": "<1@x.example>"}


def message(*to: str, **options: Any) -> EmailMessage:
    return EmailMessage("subject", "body\n", "me@x.example", list(to) or ["a@x.example"], **options)


def test_a_warm_send_costs_two_round_trips(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        send_mail("s", "b", None, ["a@x.example"])
        with site.connection().pool.connection() as connection:
            before = connection.round_trips
        for _ in range(5):
            assert send_mail("s", "b", None, ["a@x.example"]) == 1
        with site.connection().pool.connection() as connection:
            assert connection.round_trips - before == 10
        assert server.ledger.commands == [["EHLO", *["MAIL", "RCPT", "DATA"] * 6]]
        assert server.messages[0].sender == "robot@x.example"


def test_threads_share_one_pool(site: Any) -> None:
    with MailServer() as server:
        site.use(server, max_connections=2)
        results = in_threads(
            6, lambda n: [send_mail("s", "b", None, [f"t{n}-{i}@x.example"]) for i in range(5)]
        )
        assert results == [[1] * 5] * 6
        assert len(server.ledger.connections) <= 2
        assert sorted(m.addresses[0] for m in server.messages) == sorted(
            f"t{n}-{i}@x.example" for n in range(6) for i in range(5)
        )


def test_other_options_are_another_pool(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        send_mail("s", "b", None, ["a@x.example"])
        first = site.connection().pool
        assert site.connection().pool is first
        site.use(server, max_connections=2)
        send_mail("s", "b", None, ["a@x.example"])
        assert site.connection().pool is not first
        assert len(server.ledger.connections) == 2


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_tls_and_a_password(site: Any, mode: Any) -> None:
    context = certs.server_context()
    with MailServer(users={"ann": "s3cret"}, require_auth=True, ssl_context=context, tls=mode) as server:
        secured = {"use_tls": True} if mode == "starttls" else {"use_ssl": True}
        site.use(
            server,
            username="ann",
            password="s3cret",
            ssl_context="support.certs.client_context",
            **secured,
        )
        assert send_mail("s", "b", None, ["a@x.example"]) == 1
        assert (server.messages[0].tls, server.messages[0].user) == (True, "ann")


def test_an_unknown_authority_is_refused(site: Any) -> None:
    with MailServer(ssl_context=certs.server_context(), strict=False) as server:
        site.use(server, use_tls=True)
        with pytest.raises(pysmtpx.TlsError) as caught:
            send_mail("s", "b", None, ["a@x.example"])
        assert isinstance(caught.value, OSError)
        assert not server.messages


def test_a_server_without_starttls_gets_nothing(site: Any) -> None:
    with MailServer() as server:
        site.use(server, use_tls=True)
        with pytest.raises(pysmtpx.SmtpError):
            send_mail("s", "b", None, ["a@x.example"])
        assert "MAIL" not in server.ledger.commands[0]


def test_a_user_without_a_password_does_not_log_in(site: Any) -> None:
    """As with Django's own backend."""
    with MailServer(users={"ann": "s3cret"}) as server:
        site.use(server, username="ann", password="")
        assert send_mail("s", "b", None, ["a@x.example"]) == 1
        assert server.messages[0].user is None


@pytest.mark.parametrize("allowed", [False, True])
def test_a_password_in_clear_text_stays_here(
    site: Any, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pysmtpx.endpoint.is_local", lambda host: False)  # as if it were far away
    with MailServer(users={"ann": "s3cret"}, mechanisms=["PLAIN", "LOGIN"]) as server:
        site.use(server, username="ann", password="s3cret", insecure_auth=allowed)
        if allowed:
            assert send_mail("s", "b", None, ["a@x.example"]) == 1
        else:
            with pytest.raises(pysmtpx.AuthenticationError, match="TLS"):
                send_mail("s", "b", None, ["a@x.example"])
            assert "AUTH" not in server.ledger.commands[0]


def test_a_token_from_a_function(site: Any) -> None:
    context = certs.server_context()
    with MailServer(tokens={"ann": "token-1"}, require_auth=True, ssl_context=context) as server:
        site.use(
            server,
            username="ann",
            token=lambda: "token-1",
            use_tls=True,
            ssl_context=certs.client_context(),
        )
        assert send_mail("s", "b", None, ["a@x.example"]) == 1
        assert server.messages[0].user == "ann"


def test_bcc_is_in_the_envelope_alone(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        sent = message("a@x.example", cc=["c@x.example"], bcc=["Bob <b@x.example>"])
        assert sent.send() == 1
        assert server.messages[0].addresses == ["a@x.example", "c@x.example", "b@x.example"]
        assert b"b@x.example" not in server.messages[0].content
        assert sent.send_result.accepted_recipients == ("a@x.example", "c@x.example", "b@x.example")
        assert sent.send_error is None


def many_kinds() -> list[EmailMessage]:
    plain = message(headers=FIXED)
    eight_bit = EmailMessage("Prüfung", "Wörter\n", "Jörg <me@x.example>", ["Ä <a@x.example>"], headers=FIXED)
    both = EmailMultiAlternatives("s", "text", "me@x.example", ["a@x.example"], headers=FIXED)
    both.attach_alternative("<p>ünïcode</p>", "text/html")
    attached = message(headers=FIXED | {"Reply-To": "Ö <r@x.example>", "X-Kind": "ä b"})
    attached.attach("dätei.bin", bytes(range(256)), "application/octet-stream")
    attached.attach("notes.txt", "Zeile eins\nZeile zwei\n", "text/plain")
    attached.attach("other.eml", plain, "message/rfc822")
    long = EmailMessage("s" * 200, "x" * 3000 + "\n", "me@x.example", ["a@x.example"], headers=FIXED)
    return [plain, eight_bit, both, attached, long]


@pytest.mark.parametrize("number", range(5))
def test_what_arrives_reads_as_django_wrote_it(site: Any, number: int) -> None:
    """Fields may be folded elsewhere; their values, the structure and every body are the same."""
    with MailServer() as server:
        site.use(server)
        sent = many_kinds()[number]
        sent.send()
        arrived = message_from_bytes(server.messages[0].content, policy=SMTP)
    octets = sent.message().as_bytes().replace(b"\n", b"\r\n")
    written = message_from_bytes(octets, policy=SMTP)
    for ours, theirs in zip(arrived.walk(), written.walk(), strict=True):
        assert fields(ours) == fields(theirs)
        assert ours.get_content_type() == theirs.get_content_type()
        if not ours.is_multipart():
            assert ours.get_content() == theirs.get_content()


def fields(part: Any) -> list[tuple[str, str]]:
    """Every field, but for the boundary of a multipart, which is by chance."""
    return [(k, str(v).strip()) for k, v in part.items() if k != "Content-Type" or not part.is_multipart()]


def test_the_date_is_in_the_zone_that_the_settings_say(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        for local, zone in ((False, ("+0000", "-0000")), (True, ("+0900",))):
            with override_settings(TIME_ZONE="Asia/Tokyo", EMAIL_USE_LOCALTIME=local):
                message().send()
            date = message_from_bytes(server.messages[-1].content)["Date"]
            assert date.endswith(zone)


def test_a_server_without_8bitmime_gets_seven_bits(site: Any) -> None:
    with MailServer(extensions=["PIPELINING", "SIZE"]) as server:
        site.use(server)
        send_mail("s", "Wörter", None, ["a@x.example"])
        assert server.messages[0].content.isascii()
        assert "Wörter" in message_from_bytes(server.messages[0].content, policy=SMTP).get_content()


@pytest.mark.parametrize("field", ["from_email", "to", "cc", "bcc", "reply_to", "Sender"])
def test_a_local_part_in_utf8_goes_as_it_is(site: Any, field: str) -> None:
    """Django 5 makes an encoded word of it, which is another mailbox (RFC 2047 5, RFC 6531)."""
    address = "Jürgen Ä <jürgen@exämple.com>"
    with MailServer() as server:
        site.use(server)
        sent = message()
        if field == "Sender":
            sent.extra_headers["Sender"] = address
        else:
            setattr(sent, field, address if field == "from_email" else [address])
        assert sent.send() == 1
    arrived = server.messages[0]
    assert b"=?" not in arrived.content.replace(b"=?utf-8?b?SsO8cmdlbiDDhA==?=", b"")
    assert "SMTPUTF8" in arrived.params
    expected = "jürgen@xn--exmple-cua.com"
    if field == "from_email":
        assert arrived.sender == expected
    elif field in ("to", "cc", "bcc"):
        assert expected in arrived.addresses
    if field != "bcc":
        assert "<jürgen@".encode() in arrived.content


def test_a_field_that_a_subclass_made_stays(site: Any) -> None:
    """Whoever hides the recipients must not find them shown again."""

    class Hidden(EmailMessage):
        def message(self, **options: Any) -> Any:
            made = super().message(**options)
            del made["To"]
            made["To"] = "undisclosed recipients:;"
            return made

    with MailServer() as server:
        site.use(server)
        Hidden("s", "b", "me@x.example", ["jürgen@x.example", "a@x.example"]).send()
        assert server.messages[0].addresses == ["jürgen@x.example", "a@x.example"]
        assert b"@x.example>" not in server.messages[0].content.replace(b"Message-ID", b"")
        assert "jürgen".encode() not in server.messages[0].content


def test_a_domain_alone_needs_no_smtputf8(site: Any) -> None:
    with MailServer(extensions=["PIPELINING"]) as server:
        site.use(server)
        assert message("a@exämple.com").send() == 1
        assert server.messages[0].addresses == ["a@xn--exmple-cua.com"]
        assert b"a@xn--exmple-cua.com" in server.messages[0].content


def test_no_smtputf8_at_the_server_is_an_error(site: Any) -> None:
    with MailServer(extensions=["PIPELINING"]) as server:
        site.use(server)
        with pytest.raises(pysmtpx.NotSupportedError):
            message("jürgen@x.example").send()
        assert not server.messages


def test_many_messages_go_on_after_a_refused_one(site: Any) -> None:
    with MailServer(refuse=REFUSE) as server:
        site.use(server)
        addresses = ["a", "bad", "b", "no address at all", "c", "later", "d"]
        mails = [message(f"{name}@x.example" if " " not in name else name) for name in addresses]
        with pytest.raises(pysmtpx.AllRecipientsFailed) as caught:
            site.connection().send_messages(mails)
        assert caught.value is mails[1].send_error
        assert [each.send_result is not None for each in mails] == [
            True,
            False,
            True,
            False,
            True,
            False,
            True,
        ]
        assert sorted(m.addresses[0][0] for m in server.messages) == ["a", "b", "c", "d"]
        assert isinstance(mails[3].send_error, ValueError)
        assert mails[5].send_error.temporary


def test_the_number_of_those_that_were_sent(site: Any) -> None:
    with MailServer(refuse=REFUSE) as server:
        site.use(server, fail_silently=True)
        mails = [message("a@x.example"), message("bad@x.example"), message("b@x.example", "bad@x.example")]
        assert site.connection().send_messages([*mails, EmailMessage("s", "b", None, [])]) == 2
        assert [r.recipient for r in mails[2].send_result.rejected_recipients] == ["bad@x.example"]
        assert mails[2].send_error is None
        assert site.connection().send_messages([]) == 0
        assert site.connection().send_messages(each for each in [message()]) == 1


def test_silence_does_not_hide_what_is_wrong_with_a_message(site: Any) -> None:
    """As Django's own: a line end in a field is never passed over."""
    with MailServer() as server:
        site.use(server, fail_silently=True)
        mails = [message(), EmailMessage("one\nBcc: two@x.example", "b", None, ["a@x.example"]), message()]
        with pytest.raises(ValueError, match=r"newline|linefeed"):
            site.connection().send_messages(mails)
        with pytest.raises(ValueError, match="address"):
            site.connection().send_messages([message("a@x.example\nRCPT TO:<b@x.example>")])
        with pytest.raises(ValueError, match="one address"):
            site.connection().send_messages([message("a@x.example, b@x.example")])
        assert [m.addresses for m in server.messages] == [["a@x.example"]] * 2


def test_silence_does_not_hide_what_a_message_does(site: Any) -> None:
    class Report(EmailMessage):
        def message(self, **options: Any) -> Any:
            raise FileNotFoundError("the report is not there")

    with MailServer() as server:
        site.use(server, fail_silently=True)
        mails = [message(), Report("s", "b", None, ["a@x.example"]), message()]
        with pytest.raises(FileNotFoundError):
            site.connection().send_messages(mails)
        assert len(server.messages) == 2


def test_an_interrupt_tells_of_what_is_under_way(site: Any) -> None:
    class Interrupted(EmailMessage):
        def message(self, **options: Any) -> Any:
            hold.wait_for()
            raise KeyboardInterrupt

    hold = Hold("FINAL", lambda event: event.transaction == 1)
    with MailServer(verdict=hold) as server:
        site.use(server, max_connections=1)
        mails = [message(), message(), Interrupted("s", "b", None, ["a@x.example"])]
        with pytest.raises(KeyboardInterrupt) as caught:
            site.connection().send_messages(mails)
        hold.go.set()
        close_pools()
    assert caught.value.__notes__ == ["perhaps delivered: a@x.example"]


def test_send_mass_mail_overlaps(site: Any) -> None:
    """More than one connection is in use at a time."""
    is_warm = threading.Event()
    hold = Hold("FINAL", lambda event: is_warm.is_set())
    with MailServer(verdict=hold) as server:
        site.use(server, max_connections=3)
        message("0@x.example").send()
        is_warm.set()
        data = [("s", "b", None, [f"{n}@x.example"]) for n in range(1, 30)]
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(send_mass_mail(data)))
        thread.start()
        hold.wait_for(3)
        hold.go.set()
        thread.join(20)
        assert results == [29]
        assert sorted(m.addresses[0] for m in server.messages) == sorted(f"{n}@x.example" for n in range(30))
        assert len(server.ledger.connections) == 3


def test_an_interrupt_withdraws_what_is_queued(site: Any) -> None:
    told: list[Any] = []

    def interrupt(message: Any, **_: Any) -> None:
        told.append(message)
        raise KeyboardInterrupt

    message_sent.connect(interrupt)
    try:
        with MailServer() as server:
            site.use(server, max_connections=1)
            with pytest.raises(KeyboardInterrupt):
                site.connection().send_messages([message(f"m{n}@x.example") for n in range(50)])
            close_pools()
            assert len(told) == 1
            assert len(server.messages) < 10
    finally:
        message_sent.disconnect(interrupt)


def test_a_list_is_sent_from_a_callback_of_the_pool(site: Any) -> None:
    """By the pool's workers, since a callback must not wait for them."""
    with MailServer() as server:
        site.use(server, max_connections=2)
        message("first@x.example").send()
        done: list[int] = []
        future = site.connection().pool.submit(mail_object(message("second@x.example")))
        future.add_done_callback(
            lambda _: done.append(site.connection().send_messages([message(), message(), message()]))
        )
        future.result()
        until(lambda: done == [3])
        assert site.connection().pool.drain()
        assert len(server.messages) == 5


def test_where_a_call_must_not_wait_the_message_is_queued(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``AdminEmailHandler`` sends wherever something is logged, also in a worker of the pool."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise pysmtpx.UsageError("not from a callback of the pool")

    monkeypatch.setattr(pysmtpx.SmtpPool, "send", refuse)
    with MailServer() as server:
        site.use(server)
        assert site.connection().send_messages([message(), message()]) == 2
        site.connection().pool.drain()
        assert len(server.messages) == 2
        close_pools()
        monkeypatch.setattr(pysmtpx.SmtpPool, "closed", property(lambda self: True))
        with pytest.raises(pysmtpx.UsageError):
            message().send()


def test_a_pool_that_is_closed_in_the_middle_of_a_list(site: Any) -> None:
    """Whoever closes the shared pools, another one takes what is left, and everybody is told of."""
    mails = [message(f"{n}@x.example") for n in range(200)]
    told: list[Any] = []

    def close(message: Any, **_: Any) -> None:
        told.append(message)
        if len(told) == 3:
            close_pools()

    message_sent.connect(close)
    try:
        with MailServer() as server:
            site.use(server, max_connections=1, fail_silently=True)
            message("warm@x.example").send()
            site.connection().send_messages(mails)
            arrived = [each.addresses[0] for each in server.messages]
    finally:
        message_sent.disconnect(close)
    assert len(arrived) == len(set(arrived))
    for each in mails:
        assert (each.send_result is not None) == (each.to[0] in arrived)
        assert (each.send_result is None) == (each.send_error is not None)
    assert mails[-1].send_result is not None


def test_a_message_that_a_closed_pool_refuses_goes_by_another(site: Any) -> None:
    """The pool closes between one message being asked for and being handed over."""
    mails = [message(f"{n}@x.example") for n in range(7)]

    def close(*args: Any, **options: Any) -> Any:
        del mails[5].message  # the next time it is the method of the class
        close_pools()
        return mails[5].message(*args, **options)

    mails[5].message = close
    with MailServer() as server:
        site.use(server, max_connections=1, fail_silently=True)
        message("warm@x.example").send()
        site.connection().send_messages(mails)
        arrived = {each.addresses[0] for each in server.messages}
    assert {each.to[0] for each in mails[5:]} <= arrived
    for each in mails:
        assert (each.send_result is not None) == (each.to[0] in arrived)
        assert (each.send_result is None) == (each.send_error is not None)


def test_a_rate_holds_for_many_messages(site: Any) -> None:
    with MailServer() as server:
        site.use(server, rate=200, timeout=LONG)
        assert site.connection().send_messages([message(f"{n}@x.example") for n in range(20)]) == 20
        assert len(server.messages) == 20


def test_all_or_nothing(site: Any) -> None:
    with MailServer(refuse=REFUSE) as server:
        site.use(server, all_or_nothing=True)
        with pytest.raises(pysmtpx.RecipientsRejected):
            message("a@x.example", "bad@x.example").send()
        assert not server.messages


def test_retry_of_refusals_for_now(site: Any) -> None:
    answers: Any = {("RCPT", 1): "450 4.2.0 later"}
    with MailServer(replies=answers) as server:
        site.use(server, retry={"temporary": True, "backoff": 0.0})
        assert message().send() == 1
        assert len(server.messages) == 1


def test_the_timeout_bounds_the_whole_call(site: Any) -> None:
    hold = Hold("DATA")
    with MailServer(verdict=hold, strict=False) as server:
        site.use(server, timeout=ENOUGH)
        with pytest.raises(TimeoutError) as caught:
            send_mail("s", "b", None, ["a@x.example"])
        assert isinstance(caught.value, pysmtpx.Timeout)
        hold.go.set()
        assert not server.messages


def test_open_and_close(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        backend = site.connection()
        assert backend.connection is None
        assert backend.open() is True
        assert backend.open() is False
        assert backend.connection is not None
        assert len(server.ledger.connections) == 1
        backend.send_messages([message()])
        backend.close()
        backend.close()
        assert backend.connection is None
        with site.connection() as other:
            assert other.open() is False
            other.send_messages([message(), message()])
        assert backend.send_messages([message()]) == 1
        assert all(not each.ending for each in server.ledger.connections)
        assert not any("QUIT" in commands for commands in server.ledger.commands)


def test_open_tells_of_a_wrong_password(site: Any) -> None:
    with MailServer(users={"ann": "s3cret"}, require_auth=True) as server:
        site.use(server, username="ann", password="wr0ng")
        with pytest.raises(pysmtpx.AuthenticationError) as caught, site.connection():
            pass
        assert "wr0ng" not in repr(caught.value) + str(caught.value)
        site.use(server, username="ann", password="wr0ng", fail_silently=True)
        assert site.connection().open() is None
        assert site.connection().send_messages([message()]) == 0


def test_nobody_listens(site: Any) -> None:
    site.use(host="127.0.0.1", port=CLOSED_PORT, retry={"attempts": 1})
    with pytest.raises(OSError, match="refused"):
        send_mail("s", "b", None, ["a@x.example"])
    site.use(host="127.0.0.1", port=CLOSED_PORT, retry={"attempts": 1}, fail_silently=True)
    assert site.connection().send_messages([message(), message()]) == 0


def test_a_list_for_a_server_that_is_away_fails_soon(site: Any) -> None:
    """The first is tried as a single one would be; the rest is not."""
    site.use(host="127.0.0.1", port=CLOSED_PORT, retry={"attempts": 1})
    mails = [message(f"{n}@x.example") for n in range(100)]
    before = time.monotonic()
    with pytest.raises(pysmtpx.ConnectError) as caught:
        site.connection().send_messages(mails)
    assert time.monotonic() - before < LONG
    assert caught.value is mails[0].send_error
    assert {type(each.send_error) for each in mails} == {type(caught.value)}
    assert mails[99].send_error.unsent_recipients == ("99@x.example",)
    assert mails[99].send_error.safe_to_retry


def test_a_server_that_dies_in_the_middle_of_a_list(site: Any) -> None:
    told: list[Any] = []
    mails = [message(f"{n}@x.example") for n in range(60)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(MailServer(strict=False))
        site.use(server, retry={"attempts": 1}, timeout=1, max_connections=2, fail_silently=True)

        def stop(message: Any, **_: Any) -> None:
            told.append(message)
            if len(told) == 5:
                stack.close()

        message_sent.connect(stop)
        try:
            before = time.monotonic()
            sent = site.connection().send_messages(mails)
        finally:
            message_sent.disconnect(stop)
    assert time.monotonic() - before < 2 * LONG
    assert sent == len(told) == sum(each.send_result is not None for each in mails)
    assert all((each.send_result is None) != (each.send_error is None) for each in mails)
    assert len(server.messages) <= sent + sum(
        isinstance(each.send_error, pysmtpx.DeliveryUnknown) for each in mails
    )
    assert mails[59].send_error.unsent_recipients == ("59@x.example",)


def test_several_hosts(site: Any) -> None:
    with MailServer() as server:
        site.use(host=["localhost", "127.0.0.1"], port=str(server.port))
        assert message().send() == 1
        assert [each.host for each in site.connection().pool.servers] == ["localhost", "127.0.0.1"]


def test_a_child_has_connections_of_its_own(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        send_mail("s", "b", None, ["parent@x.example"])
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if send_mail("s", "b", None, ["child@x.example"]) == 1 else 1
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        send_mail("s", "b", None, ["parent@x.example"])
        assert [m.addresses[0][0] for m in server.messages] == ["p", "c", "p"]
        assert [m.connection for m in server.messages] == [0, 1, 0]


def test_the_same_arguments_as_djangos_own(site: Any) -> None:
    """Positional too, and given arguments win over settings."""
    with MailServer(users={"ann": "s3cret"}) as server:
        site.use(host="nowhere.example", port=2)
        if site.by_mailers:
            backend = EmailBackend(server.host, server.port, "ann", "s3cret", False, True, alias="other")
        else:
            backend = EmailBackend(server.host, server.port, "ann", "s3cret", False, True)
        assert backend.fail_silently is True
        assert backend.send_messages([message()]) == 1
        assert server.messages[0].user == "ann"
        assert isinstance(backend, mail.backends.smtp.EmailBackend)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_what_a_call_says_wins_over_the_settings(site: Any) -> None:
    """Deprecated with MAILERS, and nevertheless right."""
    with MailServer(users={"ann": "s3cret"}, refuse=REFUSE) as server:
        site.use(server)
        assert send_mail("s", "b", None, ["bad@x.example"], fail_silently=True) == 0
        assert send_mail("s", "b", None, ["a@x.example"], auth_user="ann", auth_password="s3cret") == 1
        assert send_mail("s", "b", None, ["a@x.example"]) == 1
        assert [m.user for m in server.messages] == ["ann", None]


def test_what_django_sends_of_its_own_accord(site: Any) -> None:
    with MailServer() as server:
        site.use(server, admins=["admin@x.example"])
        mail.mail_admins("s", "b")
        assert server.messages[0].addresses == ["admin@x.example"]


@pytest.mark.parametrize("silently", [False, True])
def test_roots_that_cannot_be_read_are_not_the_fault_of_a_message(site: Any, silently: bool) -> None:
    """As where the server cannot be reached: the rest is not tried, and silence is kept."""
    mails = [EmailMessage("s", "b", "me@x.example", ["a@x.example"]) for _ in range(3)]
    with MailServer(ssl_context=certs.server_context("localhost")) as server:
        options = {"host": "localhost", "port": server.port, "use_tls": True, "roots": "/no/such/roots.pem"}
        site.use(**options, fail_silently=silently)
        if silently:
            assert site.connection().send_messages(mails) == 0
        else:
            with pytest.raises(pysmtpx.InputError, match="roots cannot be loaded"):
                site.connection().send_messages(mails)
    assert [isinstance(each.send_error, pysmtpx.InputError) for each in mails] == [True] * 3
    assert "not tried" in mails[2].send_error.__notes__[0]
