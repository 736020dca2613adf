"""Metrics for Prometheus: messages, recipients, retries, connections, the time to each reply, and the pools.

::

    from pysmtpx.contrib import prometheus

    prometheus.instrument()

From then on every connection and pool of the process is observed, and what
``prometheus_client`` exposes has the metrics of docs/how-to/observability.md. Needs
``pysmtpx[prometheus]``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from ..errors import InputError, SmtpError
from ..extras import needs
from ..observing import Event, Observer, Peer, Step, add, remove
from ..outcome import Outcome
from ..pooling.overview import stats_by_name
from ..wire.limits import Stage
from ..wire.reply import Reply
from ..wire.result import SendResult

needs("prometheus", "prometheus_client")

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram  # noqa: E402
from prometheus_client.core import GaugeMetricFamily  # noqa: E402
from prometheus_client.registry import Collector  # noqa: E402

__all__ = ["instrument", "uninstrument"]

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Seconds; a server may take minutes (RFC 5321 4.5.3.2)."""
OTHER: Final = "other"
"""The outcome of what was cancelled or interrupted; the ``error`` of a dial that none of ours ended."""

_current: dict[CollectorRegistry, Instrumentation] = {}
_lock: Final = threading.Lock()
"""Guards it: several threads may be the first."""


def instrument(registry: CollectorRegistry = REGISTRY) -> None:
    """Observe every connection and pool of the process, from now on; does nothing twice for one registry.

    Raises ``MissingExtra`` without ``prometheus_client``, and ``InputError`` where the
    registry has a metric of the same name.
    """
    with _lock:
        if registry not in _current:
            _current[registry] = Instrumentation(registry)
            add(_current[registry])


def uninstrument(registry: CollectorRegistry = REGISTRY) -> None:
    """Observe nothing more for a registry, and take its metrics out; does nothing twice."""
    with _lock:
        observer = _current.pop(registry, None)
        if observer is not None:
            remove(observer)
            observer.unregister()


class Instrumentation(Observer):
    """What ``instrument`` adds to the observers.

    Labels are servers, outcomes, stages and classes of errors: as many as the
    configuration and this package have, whatever a server or a message says.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.messages = Counter(
            "pysmtpx_messages",
            "Messages by what became of them.",
            ["server", "outcome"],
            registry=None,
        )
        self.recipients = Counter(
            "pysmtpx_recipients",
            "Recipients by what became of them.",
            ["server", "outcome"],
            registry=None,
        )
        self.retries = Counter(
            "pysmtpx_retries", "Tries of messages after the first.", ["server"], registry=None
        )
        self.failures = Counter(
            "pysmtpx_connect_failures",
            "Connections that could not be made, by the class of the error.",
            ["server", "error"],
            registry=None,
        )
        self.seconds = Histogram(
            "pysmtpx_send_duration_seconds",
            "From when a message is handed in to its outcome.",
            ["server", "outcome"],
            buckets=_BUCKETS,
            registry=None,
        )
        self.connects = Histogram(
            "pysmtpx_connect_duration_seconds",
            "From the dial to where mail is taken, TLS and log-in included; those that failed as well.",
            ["server"],
            buckets=_BUCKETS,
            registry=None,
        )
        self.replies = Histogram(
            "pysmtpx_reply_duration_seconds",
            "From the write of a command, or of the end of a message, to its reply.",
            ["server", "stage"],
            buckets=_BUCKETS,
            registry=None,
        )
        wanted: list[Collector] = [
            self.messages,
            self.recipients,
            self.retries,
            self.failures,
            self.seconds,
            self.connects,
            self.replies,
            Pools(),
        ]
        self._collectors: list[Collector] = []
        self._register(wanted)

    def _register(self, wanted: list[Collector]) -> None:
        """All or none of them."""
        try:
            for each in wanted:
                self._registry.register(each)
                self._collectors.append(each)
        except ValueError as error:
            self.unregister()
            raise InputError(f"the registry has such metrics already: {error}") from error

    def unregister(self) -> None:
        """Take the metrics out of the registry."""
        while self._collectors:
            self._registry.unregister(self._collectors.pop())

    def end(self, step: Step) -> None:
        """Count it."""
        assert step.seconds is not None
        if step.name == "send":
            self._sent(step, step.seconds)
        elif step.name == "connect":
            self.connects.labels(step.server).observe(step.seconds)
            if step.outcome is not None:
                error = type(step.outcome).__name__ if isinstance(step.outcome, SmtpError) else OTHER
                self.failures.labels(step.server, error).inc()

    def _sent(self, step: Step, seconds: float) -> None:
        status = OTHER
        if isinstance(step.outcome, SendResult | SmtpError):
            told = Outcome.of(step.mail, step.outcome)
            status = told.status
            for name in ("accepted", "rejected", "unknown", "unsent"):
                number = len(getattr(told, f"{name}_recipients"))
                if number:
                    self.recipients.labels(step.server, name).inc(number)
        self.messages.labels(step.server, status).inc()
        self.seconds.labels(step.server, status).observe(seconds)

    def replied(self, peer: Peer, stage: Stage, reply: Reply, seconds: float) -> None:
        """Measure it."""
        self.replies.labels(peer.name, stage.value).observe(seconds)

    def tell(self, event: Event) -> None:
        """Count another try."""
        if event.kind == "retried":
            self.retries.labels(event.server).inc()


class Pools(Collector):
    """The pools of the process at the moment of the scrape; those with the same servers added up."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A family for each number of ``pool.stats()`` that goes up and down."""
        connections = GaugeMetricFamily(
            "pysmtpx_pool_connections", "Connections of the pool, by state.", labels=["pool", "state"]
        )
        waiting = GaugeMetricFamily(
            "pysmtpx_pool_waiting", "Calls and workers that wait for a connection.", labels=["pool"]
        )
        queued = GaugeMetricFamily(
            "pysmtpx_pool_queued_messages", "Messages in the queue, retries included.", labels=["pool"]
        )
        under_way = GaugeMetricFamily(
            "pysmtpx_pool_messages_under_way", "Messages that a worker has taken.", labels=["pool"]
        )
        workers = GaugeMetricFamily("pysmtpx_pool_workers", "Worker threads.", labels=["pool"])
        for name, stats in stats_by_name().items():
            connections.add_metric([name, "idle"], stats.idle)
            connections.add_metric([name, "used"], stats.connections - stats.idle)
            connections.add_metric([name, "dialling"], stats.dialling)
            waiting.add_metric([name], stats.waiting)
            queued.add_metric([name], stats.queued)
            under_way.add_metric([name], stats.under_way)
            workers.add_metric([name], stats.workers)
        yield from (connections, waiting, queued, under_way, workers)
