"""Options: listed once, shown by all that takes them; a name that is none is told with what was meant."""

from __future__ import annotations

import inspect
import typing
from dataclasses import fields

import pytest
from celery import Celery

import pysmtpx
import pysmtpx.checking
import pysmtpx.smtplib as smtplib
from pysmtpx import InputError, PoolOptions, Server, SmtpError, SmtpPool, options
from pysmtpx.contrib.celery import register
from pysmtpx.pooling.arguments import OWN_DEFAULTS, POOL_DEFAULTS

SERVER = [field.name for field in fields(Server)]


def keywords(function) -> list[str]:
    found = inspect.signature(function).parameters.values()
    assert not [each for each in found if each.kind is each.VAR_KEYWORD]
    return [each.name for each in found if each.kind is each.KEYWORD_ONLY]


def test_the_table_has_the_fields_of_a_server():
    assert set(options.ServerChanges.__annotations__) == set(SERVER)
    assert set(options.ServerOptions.__annotations__) == set(options.SERVER_DEFAULTS)
    assert list(options.SERVER_DEFAULTS) == SERVER[2:]


def test_the_table_has_the_fields_of_a_route():
    names = [field.name for field in fields(pysmtpx.Route)]
    assert names == ["server", *options.RouteOptions.__annotations__]
    assert keywords(pysmtpx.Route) == list(options.ROUTE_DEFAULTS) == names[1:]


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Server, options.SERVER_DEFAULTS),
        (pysmtpx.Route, options.ROUTE_DEFAULTS),
        (SmtpPool, OWN_DEFAULTS),
    ],
)
def test_whoever_takes_an_option_says_what_it_means(kind, table):
    assert [name for name in table if f"``{name}``" not in inspect.getdoc(kind)] == []


def test_each_type_of_the_table_can_be_found():
    hints = typing.get_type_hints(options.ServerChanges)
    assert hints["connect_timeout"] is float
    assert typing.get_type_hints(Server).keys() == hints.keys()


@pytest.mark.parametrize("function", [pysmtpx.connect, Server, Server.__init__])
def test_a_signature_lists_the_options_and_their_defaults(function):
    assert keywords(function) == SERVER[2:]
    found = inspect.signature(function).parameters
    assert {name: found[name].default for name in SERVER[2:]} == options.SERVER_DEFAULTS
    assert found["tls"].annotation == "TlsMode | None"
    typing.get_type_hints(function)


@pytest.mark.parametrize(
    ("call", "near"),
    [
        (lambda: smtplib.SMTP("h.example", timout=3), "timeout"),
        (lambda: smtplib.SMTP_SSL("h.example", contxt=3), "context"),
        (lambda: smtplib.LMTP("h.example", source_adress=3), "source_address"),
        (lambda: smtplib.SMTP().sendmail("a@x.example", "b@x.example", "", mail_option=[]), "mail_options"),
        (lambda: smtplib.SMTP().send_message(None, from_adr="a@x.example"), "from_addr"),
        (lambda: smtplib.SMTP().login(username="ann", password=""), "user"),
        (lambda: pysmtpx.RetryPolicy(atempts=3), "attempts"),
        (lambda: pysmtpx.checking.check("h.example", sendr="a@x.example"), "sender"),
    ],
)
def test_what_has_a_signature_of_its_own_names_the_nearest_keyword_too(call, near):
    """A TypeError, as of the standard library; nothing is dialled."""
    with pytest.raises(TypeError, match=rf"; did you mean {near}\?"):
        call()


def test_the_tables_of_a_pool():
    assert set(PoolOptions.__annotations__) == set(POOL_DEFAULTS)
    assert POOL_DEFAULTS.keys() == {*OWN_DEFAULTS, *options.ServerOptions.__annotations__, "port"}
    assert typing.get_type_hints(PoolOptions).keys() == POOL_DEFAULTS.keys()


@pytest.mark.parametrize("function", [SmtpPool, SmtpPool.__init__, register])
def test_a_signature_lists_the_options_of_a_pool_and_their_defaults(function):
    found = inspect.signature(function).parameters
    assert {*keywords(function)} >= {*POOL_DEFAULTS, "retry"}
    assert {name: found[name].default for name in POOL_DEFAULTS} == POOL_DEFAULTS
    typing.get_type_hints(function)


@pytest.mark.parametrize("function", [Server.from_url, Server("localhost").replace])
def test_a_signature_lists_what_it_may_change(function):
    assert set(keywords(function)) == set(SERVER)
    assert inspect.signature(function).parameters["connect_timeout"].default is ...


def test_help_shows_them(capsys):
    help(pysmtpx.connect)
    shown = capsys.readouterr().out
    assert "ssl_context: 'ssl.SSLContext | None' = None" in shown
    assert "connect_timeout: 'float' = 30.0" in shown


WAYS = {
    "connect": lambda **given: pysmtpx.connect("192.0.2.1", **given),
    "connect by URL": lambda **given: pysmtpx.connect("smtp://192.0.2.1", **given),
    "connect by Server": lambda **given: pysmtpx.connect(Server("192.0.2.1"), **given),
    "Server": lambda **given: Server("192.0.2.1", **given),
    "Server.from_url": lambda **given: Server.from_url("smtp://192.0.2.1", **given),
    "Server.replace": lambda **given: Server("192.0.2.1").replace(**given),
    "SmtpPool": lambda **given: SmtpPool("192.0.2.1", **given),
    "SmtpPool by URL": lambda **given: SmtpPool("smtp://192.0.2.1", **given),
    "SmtpPool by Servers": lambda **given: SmtpPool([Server("192.0.2.1"), Server("192.0.2.2")], **given),
    "register": lambda **given: register(Celery(), "192.0.2.1", **given),
    "register by name": lambda **given: register(Celery(), "package.module:function", **given),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("timeout", "connect_timeout"),
        ("conect_timeout", "connect_timeout"),
        ("pasword", "password"),
        ("PASSWORD", "password"),
        ("user", "username"),
        ("use_tls", "tls"),
        ("prot", "port"),
    ],
)
def test_a_keyword_that_is_none_is_told_with_what_was_meant(way, name, meant):
    """It is an error of the caller's as any other, and for Python's tools a wrong call."""
    if name == "timeout" and way.startswith("register"):
        return  # that is one of its own
    with pytest.raises(InputError, match=f"no such option: '{name}'; did you mean {meant}\\?") as caught:
        WAYS[way](**{name: "s3cr3t"})
    assert isinstance(caught.value, TypeError)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith(("SmtpPool", "register"))])
@pytest.mark.parametrize(
    ("name", "meant"),
    [("max_conections", "max_connections"), ("pool_size", "max_connections"), ("retries", "retry")],
)
def test_a_keyword_of_a_pool_too(way, name, meant):
    with pytest.raises(InputError, match=f"no such option: '{name}'; did you mean {meant}\\?"):
        WAYS[way](**{name: 1})


@pytest.mark.parametrize("way", WAYS)
def test_a_keyword_that_resembles_none_is_told_with_all_of_them(way):
    with pytest.raises(SmtpError) as caught:
        WAYS[way](**{"zz\n" * 1000: 1})
    assert "connect_timeout" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_each_of_several_is_told():
    with pytest.raises(InputError, match="'tsl'; did you mean tls\\?; no such option: 'hots'"):
        Server("192.0.2.1", tsl="none", hots=1)  # type: ignore[call-arg]
