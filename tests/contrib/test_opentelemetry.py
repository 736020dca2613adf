"""Spans and metrics by OpenTelemetry, as the SDK gets them: a connection, pools, retries, threads, Django."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from support.certs import client_context, server_context
from support.daemon import CLOSED_PORT
from support.django_site import site
from support.sends import send_by

from pysmtpx import MailObject, Server, SmtpPool, connect, observing
from pysmtpx.contrib import opentelemetry
from pysmtpx.testing import Cut, MailServer

__all__ = ["site"]

SENDER, RECIPIENT, OTHER = "s@x.example", "a@x.example", "b@x.example"
CONTENT = b"Message-ID: <1@x.example>\r\nSubject: private\r\n\r\nprivate\r\n"
_send = partial(send_by, sender=SENDER, content=CONTENT)
UNKNOWN = {OTHER: "550 5.1.1 no such user"}


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.spans(name)
        return found

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def seen() -> Iterator[Seen]:
    made = Seen()
    opentelemetry.instrument(made.tracers, made.meters)
    yield made
    opentelemetry.uninstrument()
    assert observing.observers == ()
    made.meters.shutdown()


def _caller(seen: Seen) -> Any:
    return seen.tracers.get_tracer("test").start_as_current_span("caller")


def _parent(span: ReadableSpan, spans: list[ReadableSpan]) -> str:
    assert span.parent is not None
    (found,) = [each.name for each in spans if each.context.span_id == span.parent.span_id]
    return found.partition(" ")[0]


# -- a connection -----------------------------------------------------------------------


def test_a_connection_is_dialled_secured_and_logged_in(seen: Seen) -> None:
    users = {"ann": "hunter2"}
    with MailServer(ssl_context=server_context(), users=users, tls="starttls") as server:
        options: dict[str, Any] = {"username": "ann", "password": "hunter2", "ssl_context": client_context()}
        connect(server.host, server.port, tls="starttls", server_hostname="localhost", **options).quit()
        port = server.port
    connected = seen.span("connect")
    assert connected.kind is SpanKind.CLIENT
    assert connected.attributes is not None
    assert connected.attributes["server.address"] == "127.0.0.1"
    assert connected.attributes["server.port"] == port
    assert connected.attributes["network.transport"] == "tcp"
    assert connected.attributes["network.protocol.name"] == "smtp"
    for name in ("dial", "tls", "auth"):
        span = seen.span(name)
        assert _parent(span, seen.spans()) == "connect"
        assert span.attributes is not None
    dial, tls, auth = (seen.span(name).attributes or {} for name in ("dial", "tls", "auth"))
    assert dial["network.peer.address"] == "127.0.0.1"
    assert str(tls["tls.protocol.version"]).startswith("TLSv1.")
    assert str(auth["smtp.mechanism"]).startswith("SCRAM")
    assert "hunter2" not in repr([span.to_json() for span in seen.spans()])


def test_a_message_on_a_connection(seen: Seen) -> None:
    with MailServer() as server, connect(server.url) as smtp, _caller(seen):
        smtp.send(SENDER, [RECIPIENT], CONTENT)
    span = seen.span("send")
    assert _parent(span, seen.spans()) == "caller"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    about = dict(span.attributes)
    assert (
        about.items()
        >= {
            "messaging.system": "smtp",
            "messaging.operation.name": "send",
            "messaging.message.id": "<1@x.example>",
            "smtp.outcome": "accepted",
            "smtp.reply.code": 250,
            "smtp.recipients.accepted": 1,
        }.items()
    )
    assert "error.type" not in about
    (link,) = span.links
    assert link.context.span_id == seen.span("connect").context.span_id


@pytest.mark.parametrize("way", ["connection", "send_many", "pool", "submit"])
def test_no_address_and_no_content_by_default(way: str, seen: Seen) -> None:
    with MailServer(refuse=UNKNOWN) as server:
        _send(way, server.url, [RECIPIENT, OTHER])
    told = repr([span.to_json() for span in seen.spans()])
    assert not any(word in told for word in (RECIPIENT, OTHER, SENDER, "private", "no such user"))


def test_addresses_on_request(seen: Seen) -> None:
    opentelemetry.instrument(seen.tracers, seen.meters, addresses=True)
    with MailServer(refuse=UNKNOWN) as server:
        _send("pool", server.url, [RECIPIENT, OTHER])
    span = seen.spans("send")[-1]
    assert span.attributes is not None
    assert span.attributes["smtp.recipients"] == (RECIPIENT, OTHER)
    assert span.attributes["smtp.sender"] == SENDER


@pytest.mark.parametrize("way", ["connection", "send_many", "pool", "submit"])
def test_a_partial_refusal_is_an_error_of_the_span(way: str, seen: Seen) -> None:
    """Somebody has not got it, though nothing is raised."""
    with MailServer(refuse=UNKNOWN) as server:
        _send(way, server.url, [RECIPIENT, OTHER])
    for span in seen.spans("send"):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "1 of 2 recipients refused"
        assert span.attributes is not None
        assert span.attributes["error.type"] == "pysmtpx.RecipientsRejected"
        assert span.attributes["smtp.recipients.rejected"] == 1
    assert seen.spans("send")


@pytest.mark.parametrize("way", ["connection", "send_many", "pool", "submit"])
def test_a_refusal(way: str, seen: Seen) -> None:
    with MailServer(refuse=UNKNOWN) as server:
        _send(way, server.url, [OTHER])
    for span in seen.spans("send"):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        about = dict(span.attributes)
        assert (
            about.items()
            >= {
                "error.type": "pysmtpx.AllRecipientsFailed",
                "smtp.stage": "rcpt",
                "smtp.reply.code": 550,
                "smtp.reply.enhanced_code": "5.1.1",
                "smtp.outcome": "rejected",
            }.items()
        )
        assert not span.events  # an exception's text and traceback would name the address
    assert seen.spans("send")


def test_each_message_of_a_stream_ends_also_if_it_is_left_early(seen: Seen) -> None:
    mails = [MailObject(SENDER, [RECIPIENT], CONTENT) for _ in range(3)]
    with MailServer() as server, connect(server.url) as smtp:
        outcomes = smtp.send_many(mails, overlap=True)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
    assert len(seen.spans("send")) >= 2
    assert all(span.end_time for span in seen.spans())


# -- a pool -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["pool", "submit", "pool_many"])
def test_in_whichever_thread_it_is_sent_a_message_belongs_to_its_callers_trace(way: str, seen: Seen) -> None:
    with MailServer() as server:
        with _caller(seen) as caller:
            _send(way, server.url, [RECIPIENT])
        spans = seen.spans("send")
    sends = [span for span in spans if _parent(span, seen.spans()) == "caller"]
    tries = [span for span in spans if _parent(span, seen.spans()) == "send"]
    assert len(sends) == len(tries) == 1
    assert {span.context.trace_id for span in spans} == {caller.get_span_context().trace_id}
    (link,) = tries[0].links
    assert link.context.span_id == seen.span("connect").context.span_id


def test_the_dial_for_a_call_is_a_part_of_its_message(seen: Seen) -> None:
    with MailServer() as server, _caller(seen):
        _send("pool", server.url, [RECIPIENT])
    assert _parent(seen.span("connect"), seen.spans()) == "send"
    assert _parent(seen.span("dial"), seen.spans()) == "connect"


@pytest.mark.parametrize("way", ["pool", "submit"])
def test_each_try_is_a_span(way: str, seen: Seen) -> None:
    left = itertools.count()

    def verdict(event: Any) -> Any:
        return "450 4.2.1 later" if event.verb == "RCPT" and next(left) < 2 else None

    with MailServer(verdict=verdict) as server:
        _send(way, server.url, [RECIPIENT])
    tries = [span for span in seen.spans("send") if span.parent is not None]
    (whole,) = [span for span in seen.spans("send") if span.parent is None]
    assert [(span.attributes or {}).get("smtp.resend_count") for span in tries] == [None, 1, 2]
    codes = [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert [span.status.status_code for span in tries] == codes
    assert whole.status.status_code is StatusCode.UNSET
    (retries,) = seen.points("smtp.client.retries")
    assert retries.value == 2


def test_a_failover_shows_the_dial_that_failed_and_the_server_that_took_it(seen: Seen) -> None:
    away = Server("127.0.0.1", CLOSED_PORT)
    with MailServer() as server, SmtpPool([away, Server.from_url(server.url)]) as pool:
        pool.send(SENDER, RECIPIENT, CONTENT)
        port = server.port
    failed, made = sorted(seen.spans("connect"), key=lambda span: span.status.is_ok)
    assert (failed.attributes or {})["error.type"] == "pysmtpx.ConnectError"
    assert (made.attributes or {})["server.port"] == port
    assert all((span.attributes or {})["server.port"] == port for span in seen.spans("send"))


def test_a_loss_is_in_doubt_and_an_error(seen: Seen) -> None:
    with MailServer(replies={"FINAL": Cut()}, strict=False) as server:
        _send("pool", server.url, [RECIPIENT])
    for span in seen.spans("send"):
        assert (span.attributes or {})["error.type"] == "pysmtpx.DeliveryUnknown"
        assert (span.attributes or {})["smtp.outcome"] == "unknown"


def test_what_was_cancelled_ends(seen: Seen) -> None:
    with MailServer() as server, SmtpPool(server.url, rate=0.001) as pool:
        pool.submit(MailObject(SENDER, [RECIPIENT], CONTENT)).result(60)
        second = pool.submit(MailObject(SENDER, [RECIPIENT], CONTENT))
        assert second.cancel()
        pool.close(0)
    assert len([span for span in seen.spans("send") if span.parent is None]) == 2


def test_a_log_record_of_a_worker_is_in_the_trace(seen: Seen) -> None:
    found: list[int] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if vars(record).get("smtp_event") == "sent":
                found.append(trace.get_current_span().get_span_context().trace_id)

    log, handler = logging.getLogger("pysmtpx"), Handler()
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        with MailServer() as server, _caller(seen) as caller:
            _send("submit", server.url, [RECIPIENT])
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert found == [caller.get_span_context().trace_id]


def test_a_callback_of_a_future_is_in_the_trace(seen: Seen) -> None:
    found: list[int] = []
    is_added = threading.Event()

    def verdict(event: Any) -> None:
        assert event.verb != "FINAL" or is_added.wait(60)

    def done(_: object) -> None:
        found.append(trace.get_current_span().get_span_context().trace_id)

    with MailServer(verdict=verdict) as server, SmtpPool(server.url) as pool:
        with _caller(seen) as caller:
            future = pool.submit(MailObject(SENDER, [RECIPIENT], CONTENT))
        future.add_done_callback(done)
        is_added.set()
        pool.drain()
    assert found == [caller.get_span_context().trace_id]


# -- numbers ----------------------------------------------------------------------------


def test_the_pools_at_a_moment(seen: Seen) -> None:
    with MailServer() as server, SmtpPool(server.url) as pool:
        pool.send(SENDER, RECIPIENT, CONTENT)
        name = f"{server.host}:{server.port}"
        counts = {
            point.attributes["smtp.client.connection.state"]: point.value
            for point in seen.points("smtp.client.connection.count")
            if point.attributes["smtp.pool.name"] == name
        }
        queued = [
            p for p in seen.points("smtp.client.queue.length") if p.attributes["smtp.pool.name"] == name
        ]
    assert counts == {"idle": 1, "used": 0, "dialling": 0}
    assert [point.value for point in queued] == [0]


@pytest.mark.parametrize("way", ["connection", "send_many", "pool", "submit"])
def test_what_became_of_messages_and_how_long_each_reply_took(way: str, seen: Seen) -> None:
    with MailServer(refuse=UNKNOWN) as server:
        _send(way, server.url, [RECIPIENT, OTHER])
    data = seen.reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m.data.data_points for m in data.resource_metrics[0].scope_metrics[0].metrics}
    (sent,) = metrics["messaging.client.sent.messages"]
    assert sent.value == 1
    assert sent.attributes["smtp.outcome"] == "accepted"
    (duration,) = metrics["messaging.client.operation.duration"]
    assert duration.count == 1
    by_outcome = {p.attributes["smtp.outcome"]: p.value for p in metrics["smtp.client.recipients"]}
    assert by_outcome == {"accepted": 1, "rejected": 1}
    stages = {p.attributes["smtp.stage"]: p.count for p in metrics["smtp.client.reply.duration"]}
    assert stages.items() >= {"greeting": 1, "hello": 1, "mail": 1, "rcpt": 2, "data": 1, "final": 1}.items()
    (connected,) = metrics["smtp.client.connect.duration"]
    assert connected.count == 1


# -- whole programs ----------------------------------------------------------------------


def test_djangos_backend(seen: Seen, site: Any) -> None:
    from django.core.mail import EmailMessage

    with MailServer() as server, _caller(seen):
        site.use(server)
        for _ in range(2):
            assert site.connection().send_messages([EmailMessage("Hi", "private", SENDER, [RECIPIENT])]) == 1
    sends = [span for span in seen.spans("send") if _parent(span, seen.spans()) == "caller"]
    assert len(sends) == 2
    assert "private" not in repr([span.to_json() for span in seen.spans()])


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_spans_of_its_own(seen: Seen) -> None:
    with MailServer() as server, SmtpPool(server.url) as pool:
        pool.send(SENDER, RECIPIENT, CONTENT)
        before = len(seen.spans("send"))
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                pool.send(SENDER, RECIPIENT, CONTENT)
                os.write(writing, str(len(seen.spans("send")) - before).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            assert told.read() == b"2"
        assert len(seen.spans("send")) == before


def test_instrumenting_twice_observes_once(seen: Seen) -> None:
    opentelemetry.instrument(seen.tracers, seen.meters)
    with MailServer() as server, connect(server.url) as smtp:
        smtp.send(SENDER, [RECIPIENT], CONTENT)
    assert len(seen.spans("send")) == 1
    opentelemetry.uninstrument()
    opentelemetry.uninstrument()


def test_without_an_sdk_mail_is_sent_all_the_same() -> None:
    opentelemetry.instrument()
    try:
        with MailServer() as server:
            _send("pool", server.url, [RECIPIENT])
            assert len(server.messages) == 1
    finally:
        opentelemetry.uninstrument()
