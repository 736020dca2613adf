"""Metrics for Prometheus: what is exposed, by its own parsers and tools, and the dashboard."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import CLOSED_PORT
from support.sends import send_by
from support.unpacked import TREES

from pysmtpx import InputError, SmtpPool, observing
from pysmtpx.contrib import prometheus
from pysmtpx.testing import Cut, MailServer

DOCS = Path(__file__).parents[2] / "docs/how-to"
DASHBOARD = DOCS / "grafana-dashboard.json"
SENDER, RECIPIENT, OTHER = "s@x.example", "a@x.example", "b@x.example"
CONTENT = b"Subject: private\r\n\r\nprivate\r\n"
_send = partial(send_by, sender=SENDER, content=CONTENT)
UNKNOWN = {OTHER: "550 5.1.1 no such user"}


class Scrape:
    """A registry, and what it exposes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        found = [s for family in self.registry.collect() for s in family.samples if s.name == name]
        return {tuple(sample.labels.values()): sample.value for sample in found}


@pytest.fixture
def scrape() -> Iterator[Scrape]:
    made = Scrape()
    prometheus.instrument(made.registry)
    yield made
    prometheus.uninstrument(made.registry)
    assert observing.observers == ()
    assert made.text == ""


WAYS = pytest.mark.parametrize("way", ["connection", "send_many", "pool", "submit", "pool_many"])


@WAYS
def test_messages_and_recipients_by_what_became_of_them(way: str, scrape: Scrape) -> None:
    with MailServer(refuse=UNKNOWN) as server:
        name = f"{server.host}:{server.port}"
        _send(way, server.url, [RECIPIENT, OTHER])
        _send(way, server.url, [OTHER])
    assert scrape.samples("pysmtpx_messages_total") == {(name, "accepted"): 1, (name, "rejected"): 1}
    assert scrape.samples("pysmtpx_recipients_total") == {(name, "accepted"): 1, (name, "rejected"): 2}
    assert scrape.samples("pysmtpx_send_duration_seconds_count") == {
        (name, "accepted"): 1,
        (name, "rejected"): 1,
    }


@WAYS
def test_how_long_each_reply_took(way: str, scrape: Scrape) -> None:
    with MailServer() as server:
        _send(way, server.url, [RECIPIENT, OTHER])
        name = f"{server.host}:{server.port}"
    counts = {stage: n for (_, stage), n in scrape.samples("pysmtpx_reply_duration_seconds_count").items()}
    assert counts.items() >= {"greeting": 1, "hello": 1, "mail": 1, "rcpt": 2, "data": 1, "final": 1}.items()
    assert scrape.value("pysmtpx_connect_duration_seconds_count", server=name) == 1


@pytest.mark.parametrize("way", ["pool", "submit"])
def test_retries_and_doubt(way: str, scrape: Scrape) -> None:
    with MailServer(replies={"RCPT": "450 4.2.1 later"}) as server:
        name = f"{server.host}:{server.port}"
        _send(way, server.url, [RECIPIENT])
    assert scrape.samples("pysmtpx_retries_total") == {(name,): 2}
    with MailServer(replies={"FINAL": Cut()}, strict=False) as server:
        name = f"{server.host}:{server.port}"
        _send(way, server.url, [RECIPIENT])
    assert scrape.value("pysmtpx_messages_total", server=name, outcome="unknown") == 1


def test_a_dial_that_fails(scrape: Scrape) -> None:
    with MailServer() as server:
        url, name = server.url, f"{server.host}:{server.port}"
    _send("connection", url, [RECIPIENT])
    assert scrape.value("pysmtpx_connect_failures_total", server=name, error="ConnectError") == 1


def test_the_pools_at_the_moment_of_the_scrape(scrape: Scrape) -> None:
    """Two for the same server are one series; a closed one is none."""
    with MailServer() as server, MailServer() as other, contextlib.ExitStack() as stack:
        name, other_name = f"{server.host}:{server.port}", f"{other.host}:{other.port}"
        for url in (server.url, server.url, other.url):
            pool = stack.enter_context(SmtpPool(url))
            pool.send(SENDER, RECIPIENT, CONTENT)
        with pool.connection():
            assert scrape.value("pysmtpx_pool_connections", pool=other_name, state="used") == 1
        assert scrape.value("pysmtpx_pool_connections", pool=name, state="idle") == 2
        assert scrape.value("pysmtpx_pool_connections", pool=name, state="dialling") == 0
        assert scrape.value("pysmtpx_pool_queued_messages", pool=name) == 0
    assert scrape.value("pysmtpx_pool_connections", pool=name, state="idle") is None


def test_a_pool_is_not_kept_alive_by_being_scraped(scrape: Scrape) -> None:
    with MailServer() as server:
        pool = SmtpPool(server.url)
        name = f"{server.host}:{server.port}"
        assert scrape.value("pysmtpx_pool_waiting", pool=name) == 0
        del pool
        gc.collect()
        assert scrape.value("pysmtpx_pool_waiting", pool=name) is None


def test_what_servers_and_messages_say_is_no_label(scrape: Scrape) -> None:
    for number in range(5):
        refused = {OTHER: f"550 5.1.{number} text {number}"}
        with MailServer(refuse=refused) as server:
            _send("connection", server.url, [OTHER])
    labels = {name for family in scrape.registry.collect() for s in family.samples for name in s.labels}
    assert labels - {"state", "pool"} == {"server", "outcome", "stage", "le"}
    assert OTHER not in scrape.text
    assert "private" not in scrape.text


def test_instrumenting_twice_counts_once(scrape: Scrape) -> None:
    prometheus.instrument(scrape.registry)
    with MailServer() as server:
        _send("connection", server.url, [RECIPIENT])
    assert list(scrape.samples("pysmtpx_messages_total").values()) == [1]


def test_many_threads_at_once_instrument_once() -> None:
    registry = CollectorRegistry()
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(prometheus.instrument, registry) for _ in range(64)]:
            done.result()
    prometheus.uninstrument(registry)
    assert generate_latest(registry) == b""


def test_where_a_name_is_taken_nothing_of_ours_stays() -> None:
    registry = CollectorRegistry()
    Counter("pysmtpx_retries", "somebody's", registry=registry)
    for _ in range(2):
        with pytest.raises(InputError, match="pysmtpx_retries"):
            prometheus.instrument(registry)
    assert b"pysmtpx_messages" not in generate_latest(registry)


# -- the format ---------------------------------------------------------------------------


@pytest.fixture
def exposed(scrape: Scrape) -> Iterator[Scrape]:
    """Every metric has a sample."""
    with MailServer(replies={"RCPT": "450 4.2.1 later"}) as server, SmtpPool(server.url):
        _send("pool", server.url, [RECIPIENT])
        _send("connection", f"smtp://127.0.0.1:{CLOSED_PORT}", [RECIPIENT])
        yield scrape


def test_both_of_its_parsers_read_what_is_exposed(exposed: Scrape) -> None:
    families = list(text_string_to_metric_families(exposed.text))
    by_openmetrics = list(parse_openmetrics(openmetrics.generate_latest(exposed.registry).decode()))
    assert {family.name for family in by_openmetrics} == {
        family.name for family in families if not family.name.endswith("_created")
    }
    assert all(family.documentation.endswith(".") for family in families if "_created" not in family.name)


def test_names_follow_the_conventions(exposed: Scrape) -> None:
    for family in exposed.registry.collect():
        assert re.fullmatch(r"pysmtpx_[a-z_]+", family.name)
        assert (family.type == "histogram") == family.name.endswith("_seconds")


def test_promtool_finds_nothing_to_mend(exposed: Scrape) -> None:
    promtool = shutil.which(
        "promtool", path=f"{TREES / 'prometheus/usr/bin'}{os.pathsep}{os.environ['PATH']}"
    )
    if promtool is None:
        pytest.skip("promtool is not installed")
    found = subprocess.run(
        [promtool, "check", "metrics"], input=exposed.text, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


# -- the dashboard, and the page -----------------------------------------------------------


def _names(scrape: Scrape) -> set[str]:
    return {sample.name for family in scrape.registry.collect() for sample in family.samples}


def test_the_dashboard_asks_only_for_what_there_is(exposed: Scrape) -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = dashboard["templating"]["list"]
    asked += [each["query"]["query"] for each in variables if each["type"] == "query"]
    assert asked
    labels = {n: set(s.labels) for f in exposed.registry.collect() for s in f.samples for n in [s.name]}
    for query in asked:
        names = set(re.findall(r"\bpysmtpx_\w+", query))
        assert names
        assert names <= _names(exposed)
        matched = set(re.findall(r"[{,]\s*(\w+)=", query))
        groups = re.findall(r"by \(([^)]*)\)", query)
        grouped = {name for group in groups for name in re.split(r",\s*", group)}
        assert matched | grouped <= {label for name in names for label in labels[name]}
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    assert {"title", "uid", "schemaVersion", "templating", "panels", "time"} <= dashboard.keys()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_the_page_lists_each_metric(exposed: Scrape) -> None:
    page = (DOCS / "observability.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(pysmtpx_\w+)`", page, re.M))
    families = {f.name + ("_total" if f.type == "counter" else "") for f in exposed.registry.collect()}
    assert listed == families
