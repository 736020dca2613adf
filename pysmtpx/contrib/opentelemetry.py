"""Traces and metrics by OpenTelemetry: a span for each message, try, dial, TLS handshake and log-in.

::

    from pysmtpx.contrib import opentelemetry

    opentelemetry.instrument()

From then on every connection and pool of the process is observed. Needs
``pysmtpx[opentelemetry]``, which is the API alone; what becomes of the spans is for the
SDK of the application to say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from .. import observing
from ..errors import SmtpError
from ..extras import needs
from ..identifiers import message_id, queue_id
from ..observing import Event, Observer, Peer, Step
from ..outcome import Outcome
from ..pooling.overview import stats_by_name
from ..wire.envelope import MailObject
from ..wire.limits import Stage
from ..wire.reply import Reply
from ..wire.result import SendResult

needs("opentelemetry", "opentelemetry.trace")

from opentelemetry import context, metrics, trace  # noqa: E402
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation  # noqa: E402
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider  # noqa: E402

__all__ = ["instrument", "uninstrument"]

_NAME: Final = "pysmtpx"
_VERSION: Final = str(vars(sys.modules[_NAME])["__version__"])
_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(30, 60, 120, 300),
)
"""Seconds: those of the semantic conventions, and more: a server may take minutes (RFC 5321 4.5.3.2)."""
_KINDS: Final = {"send": SpanKind.CLIENT, "try": SpanKind.CLIENT, "connect": SpanKind.CLIENT}
_NAMES: Final = {"address": "network.peer.address", "tls_version": "tls.protocol.version"}
"""Of what a step found out; the rest is of SMTP alone."""

_Attributes = dict[str, Any]
_current: Instrumentation | None = None


def instrument(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    *,
    addresses: bool = False,
) -> None:
    """Observe every connection and pool of the process, from now on; in place of what was asked for before.

    Without providers the global ones are used, whenever they are set. ``addresses``: the
    sender and the recipients of each message are attributes of its span; they are data
    about people, so by default they are not. Raises ``MissingExtra`` without the API.
    """
    global _current
    uninstrument()
    _current = Instrumentation(tracer_provider, meter_provider, addresses=addresses)
    observing.add(_current)


def uninstrument() -> None:
    """Observe nothing more; does nothing twice."""
    global _current
    if _current is not None:
        observing.remove(_current)
        _current.is_over = True
        _current = None


class Instrumentation(Observer):
    """What ``instrument`` adds to the observers."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        *,
        addresses: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, _VERSION, tracer_provider)
        self._addresses = addresses
        self.is_over = False
        meter = metrics.get_meter(_NAME, _VERSION, meter_provider)
        self._meters = _Meters(meter, self)

    # -- spans ------------------------------------------------------------------------

    def begin(self, step: Step) -> None:
        """Start a span: a part of that of the step around it, or of what the caller is at."""
        parent = None if step.parent is None else step.parent.state.get(self)
        link = None if step.link is None else step.link.state.get(self)
        step.state[self] = self._tracer.start_span(
            _span_name(step),
            context=None if parent is None else trace.set_span_in_context(parent),
            kind=_KINDS.get(step.name, SpanKind.INTERNAL),
            attributes=_attributes(step.peer) | self._of_message(step),
            links=None if link is None else [Link(link.get_span_context())],
        )

    def end(self, step: Step) -> None:
        """End it, with what became of it, and measure it."""
        span: Span | None = step.state.get(self)
        if span is not None:
            if span.is_recording():
                _conclude(span, step)
                if self._addresses:
                    span.set_attributes(_addresses(step))
            span.end()
        self._meters.ended(step)

    def enter(self, step: Step) -> Any:
        """Make its span the current one: logs and spans of the application are a part of it."""
        span = step.state.get(self)
        return None if span is None else context.attach(trace.set_span_in_context(span))

    def leave(self, entered: Any) -> None:
        """Make the one before it the current one again."""
        if entered is not None:
            context.detach(entered)

    def _of_message(self, step: Step) -> _Attributes:
        if step.name not in ("send", "try"):
            return {}
        found: _Attributes = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
        if step.attempt:
            found["smtp.resend_count"] = step.attempt
        return found

    # -- numbers ----------------------------------------------------------------------

    def replied(self, peer: Peer, stage: Stage, reply: Reply, seconds: float) -> None:
        """Measure it."""
        self._meters.replied(peer, stage, seconds)

    def tell(self, event: Event) -> None:
        """Count another try."""
        if event.kind == "retried":
            self._meters.retried(event.server)


def _span_name(step: Step) -> str:
    """Few of them: a verb and, if it is known, the server."""
    name = "send" if step.name == "try" else step.name
    return f"{name} {step.server}".rstrip()


def _attributes(peer: Peer | None) -> _Attributes:
    if peer is None:
        return {"messaging.system": "smtp"}
    found: _Attributes = {
        "messaging.system": peer.protocol,
        "network.protocol.name": peer.protocol,
        "network.transport": "unix" if peer.port is None else "tcp",
        "server.address": peer.host,
    }
    return found if peer.port is None else found | {"server.port": peer.port}


def _conclude(span: Span, step: Step) -> None:
    if step.name == "send" and step.peer is not None:
        span.update_name(_span_name(step))
        span.set_attributes(_attributes(step.peer))
    for name, value in step.details.items():
        span.set_attribute(_NAMES.get(name, f"smtp.{name}"), value)
    if step.name in ("send", "try"):
        span.set_attributes(_fate(step))
    error = error_type(step.outcome)
    if error is None:
        return
    span.set_attribute("error.type", error)
    reply = getattr(step.outcome, "reply", None)
    stage = getattr(step.outcome, "stage", None)
    if isinstance(reply, Reply):
        span.set_attributes(_codes(reply))
    if isinstance(stage, Stage):
        span.set_attribute("smtp.stage", stage.value)
    span.set_status(Status(StatusCode.ERROR, _described(step.outcome)))


def _fate(step: Step) -> _Attributes:
    """What became of the message, in numbers."""
    outcome, identifier = step.outcome, message_id(step.mail)
    found: _Attributes = {} if identifier is None else {"messaging.message.id": identifier}
    if isinstance(outcome, SendResult):
        found |= _codes(outcome.reply)
        identifier = queue_id(outcome.reply)
        if identifier is not None:
            found["smtp.queue_id"] = identifier
    if isinstance(outcome, SendResult | SmtpError):
        told = Outcome.of(step.mail, outcome)
        found["smtp.outcome"] = told.status
        found |= {f"smtp.recipients.{name}": number for name, number in _counts(told).items()}
    return found


def _addresses(step: Step) -> _Attributes:
    if step.name not in ("send", "try") or not isinstance(step.outcome, SendResult | SmtpError):
        return {}
    told = Outcome.of(step.mail, step.outcome)
    refused = tuple(each.recipient for each in told.rejected_recipients)
    everybody = (*told.accepted_recipients, *refused, *told.unknown_recipients, *told.unsent_recipients)
    found: _Attributes = {"smtp.recipients": tuple(map(str, everybody))}
    if isinstance(step.mail, MailObject):
        found["smtp.sender"] = str(step.mail.sender)
    return found


def _counts(told: Outcome) -> dict[str, int]:
    return {
        "accepted": len(told.accepted_recipients),
        "rejected": len(told.rejected_recipients),
        "unknown": len(told.unknown_recipients),
        "unsent": len(told.unsent_recipients),
    }


def _codes(reply: Reply) -> _Attributes:
    found: _Attributes = {"smtp.reply.code": reply.code}
    return found if reply.enhanced is None else found | {"smtp.reply.enhanced_code": str(reply.enhanced)}


def error_type(outcome: SendResult | BaseException | None) -> str | None:
    """For ``error.type``: a class; also if somebody was refused a message that somebody else has."""
    if isinstance(outcome, SendResult):
        return "pysmtpx.RecipientsRejected" if outcome.rejected_recipients else None
    if outcome is None:
        return None
    kind = type(outcome)
    return f"pysmtpx.{kind.__name__}" if isinstance(outcome, SmtpError) else kind.__qualname__


def _described(outcome: SendResult | BaseException | None) -> str:
    """Codes and counts: the text of an error may name an address."""
    if isinstance(outcome, SendResult):
        refused, accepted = len(outcome.rejected_recipients), len(outcome.accepted_recipients)
        return f"{refused} of {refused + accepted} recipients refused"
    words = [type(outcome).__name__]
    if isinstance(outcome, SmtpError):
        words += [] if outcome.stage is None else [f"at {outcome.stage.value}"]
        words += [] if outcome.reply is None else [str(outcome.reply.code)]
    return " ".join(words)


class _Meters:
    def __init__(self, meter: metrics.Meter, owner: Instrumentation) -> None:
        self._owner = owner
        seconds: Mapping[str, Any] = {"unit": "s", "explicit_bucket_boundaries_advisory": _BUCKETS}
        self._duration = meter.create_histogram(
            "messaging.client.operation.duration",
            description="From when a message is handed in to its outcome",
            **seconds,
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", unit="{message}", description="Messages that were handed in"
        )
        self._recipients = meter.create_counter(
            "smtp.client.recipients", unit="{recipient}", description="Recipients, by what became of them"
        )
        self._retries = meter.create_counter(
            "smtp.client.retries", unit="{try}", description="Tries of messages after the first"
        )
        self._connects = meter.create_histogram(
            "smtp.client.connect.duration", description="From the dial to where mail is taken", **seconds
        )
        self._replies = meter.create_histogram(
            "smtp.client.reply.duration", description="From the write of a command to its reply", **seconds
        )
        meter.create_observable_up_down_counter(
            "smtp.client.connection.count", [self._connections], "{connection}", "Connections of the pools"
        )
        meter.create_observable_up_down_counter(
            "smtp.client.connection.pending_requests", [self._pending], "{request}", "Who waits for one"
        )
        meter.create_observable_up_down_counter(
            "smtp.client.queue.length", [self._queue], "{message}", "Messages that wait in the pools"
        )

    def ended(self, step: Step) -> None:
        """Measure a step."""
        assert step.seconds is not None
        about = _attributes(step.peer)
        about.pop("network.protocol.name", None)
        about.pop("network.transport", None)
        error = error_type(step.outcome)
        if error is not None:
            about["error.type"] = error
        if step.name == "connect":
            self._connects.record(step.seconds, about)
        elif step.name == "send":
            about["messaging.operation.name"] = "send"
            if isinstance(step.outcome, SendResult | SmtpError):
                told = Outcome.of(step.mail, step.outcome)
                self._count(_attributes(step.peer), told)
                about["smtp.outcome"] = told.status
            self._duration.record(step.seconds, about)
            self._sent.add(1, about)

    def retried(self, server: str) -> None:
        """Count another try, which is to come."""
        host, colon, port = server.rpartition(":")
        about: _Attributes = {"server.address": server}
        if colon and port.isdigit():
            about = {"server.address": host, "server.port": int(port)}
        self._retries.add(1, about)

    def _count(self, about: _Attributes, told: Outcome) -> None:
        names = ("messaging.system", "server.address", "server.port")
        about = {name: value for name, value in about.items() if name in names}
        for name, number in _counts(told).items():
            if number:
                self._recipients.add(number, about | {"smtp.outcome": name})

    def replied(self, peer: Peer, stage: Stage, seconds: float) -> None:
        """Measure a reply."""
        about = {"server.address": peer.host, "smtp.stage": stage.value}
        self._replies.record(seconds, about if peer.port is None else about | {"server.port": peer.port})

    # -- the pools at a moment ----------------------------------------------------------

    def _connections(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, stats in self._pools():
            by_state = {
                "idle": stats.idle,
                "used": stats.connections - stats.idle,
                "dialling": stats.dialling,
            }
            for state, number in by_state.items():
                yield Observation(number, {"smtp.pool.name": name, "smtp.client.connection.state": state})

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(stats.waiting, {"smtp.pool.name": name}) for name, stats in self._pools()]

    def _queue(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(stats.queued, {"smtp.pool.name": name}) for name, stats in self._pools()]

    def _pools(self) -> Iterator[tuple[str, Any]]:
        return iter(() if self._owner.is_over else stats_by_name().items())
