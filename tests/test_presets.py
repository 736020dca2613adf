"""Providers by name."""

from __future__ import annotations

import pytest
from support import pages

from pysmtpx import InputError, Route, Server, SmtpPool, connect
from pysmtpx.presets import PRESETS, Preset, find
from pysmtpx.testing import MailServer

SECRET = "s3cr3t-Zeta"


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_a_server_that_never_begins_without_tls(name: str) -> None:
    whole = f"{name}-eu-west-1" if "{}" in PRESETS[name].host else name
    server = Server.from_url(f"preset://{whole}", username="ann", password=SECRET)
    assert server == Server(
        server.host, find(whole).port, tls=find(whole).tls, username="ann", password=SECRET
    )
    assert (server.port, server.tls) in ((465, "implicit"), (587, "starttls"))
    assert Server.from_url(server.url, password=SECRET) == server
    with SmtpPool(server, **find(whole).limits):
        pass


@pytest.mark.parametrize("name", PRESETS)
def test_each_names_the_page_that_it_was_read_in_and_the_documentation_names_it(name: str) -> None:
    assert PRESETS[name].source.startswith("https://")
    page = (pages.DOCS / "how-to" / "providers.md").read_text("utf-8")
    assert f"| `{name}` | `{PRESETS[name].host.format('REGION')}` | {PRESETS[name].port} |" in page


def test_by_url() -> None:
    server = Server.from_url(f"preset://ann%40gmail.com:{SECRET}@GMAIL?connect_timeout=5")
    assert (server.host, server.port, server.username) == ("smtp.gmail.com", 465, "ann@gmail.com")
    assert server.connect_timeout == 5
    assert Server.from_url("preset://ses-us-gov-east-1").host == "email-smtp.us-gov-east-1.amazonaws.com"
    assert Server.from_url("preset://gmail", port=587, tls="starttls") == Server("smtp.gmail.com")


@pytest.mark.parametrize(
    ("name", "host"),
    [
        *(("Microsoft-365", "smtp.office365.com"), ("MICROSOFT_365", "smtp.office365.com")),
        *(("My-Relay", "192.0.2.1"), ("myrelay", "192.0.2.1"), ("my_relay", "192.0.2.1")),
        *(("Far-Off-eu-1", "eu-1.example.org"), ("faroff-eu_1", "eu-1.example.org")),
        ("SES_EU_WEST_1", "email-smtp.eu-west-1.amazonaws.com"),
    ],
)
def test_capitals_and_hyphens_do_not_matter(monkeypatch: pytest.MonkeyPatch, name: str, host: str) -> None:
    monkeypatch.setitem(PRESETS, "My-Relay", Preset("192.0.2.1", 465))
    monkeypatch.setitem(PRESETS, "far-off", Preset("{}.example.org", 465))
    assert find(name).host == host
    if "_" not in name:
        assert Server.from_url(f"preset://{name}").host == host


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("host", 5), ("host", ""), ("host", "{}.{}"), ("host", None), ("port", "465"), ("port", 0)),
        *(("port", 65536), ("port", True), ("tls", "none"), ("tls", None), ("tls", [])),
        *(("limits", [1]), ("limits", {1: 2}), ("limits", None), ("source", None)),
    ],
)
def test_a_preset_that_cannot_be_right_is_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        Preset(**{"host": "mail.example.org", "port": 465, name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["{0}.example.org", "{.__class__}.example.org", "{!r}{}"])
def test_a_host_is_no_template_but_for_the_region(host: str) -> None:
    with pytest.raises(InputError, match="host"):
        Preset(host, 465)


@pytest.mark.parametrize(
    "rest",
    [
        *("", "gmial", "gmail-eu", "ses", "ses-", "ses-a.b", "ses-a--b", "gmail:465", "gmail/x", "gmail#x"),
        *("gmail?tls=none", f"{SECRET}/@gmail", f"ses-{SECRET}_"),
    ],
)
def test_what_is_none_is_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(InputError) as caught:
        Server.from_url(f"preset://{rest}")
    assert SECRET.lower() not in str(caught.value).lower()


def test_the_one_that_was_meant() -> None:
    with pytest.raises(InputError, match="did you mean gmail"):
        Server.from_url("preset://gmial")


def test_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        monkeypatch.setitem(PRESETS, "ours", Preset("192.0.2.1", server.port, "starttls"))
        with connect("preset://ours", host=server.host, tls="none") as smtp:
            smtp.noop()
    assert Server.from_url("preset://ours").host == "192.0.2.1"


def test_a_pool_keeps_to_the_limits_of_a_preset_unless_it_is_given_others() -> None:
    url = f"preset://ann:{SECRET}@Microsoft-365"
    for given, more, most, rate in (
        (url, {}, 3, 0.5),
        ({"url": url}, {}, 3, 0.5),
        (f"{url}?max_connections=2", {}, 2, 0.5),
        (url, {"max_connections": 7}, None, 0.5),
        ([url], {"rate": None}, 3, None),
        ({"url": url, "rate": 2}, {"max_connections": 7}, None, 2),
        (Route(url, rate=None), {}, 3, None),
    ):
        with SmtpPool(given, **more) as pool:  # type: ignore[arg-type]
            (route,) = pool.routes
            assert (route.max_connections, route.rate) == (most, rate), (given, more)


def test_a_preset_that_is_none_is_told_by_a_pool_as_by_a_server() -> None:
    for make in (SmtpPool, Route, Server.from_url):
        with pytest.raises(InputError, match="did you mean gmail") as caught:
            make(f"preset://ann:{SECRET}@gmial")  # type: ignore[operator]
        assert SECRET not in str(caught.value)
