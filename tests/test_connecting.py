"""The server that the arguments of ``connect`` describe, remembered where that can do no harm."""

from __future__ import annotations

import ssl

import pytest

from pysmtpx import InputError, Server
from pysmtpx.connecting import as_server

PASSWORD = "correct horse battery"


def server(target: str, port: int | None = None, **options: object) -> Server:
    return as_server(target, port, options)


def test_plain_arguments_give_the_server_that_they_gave_before():
    first = server("mail.example.org", 587, local_hostname="client.example.org", connect_timeout=5.0)
    again = server("mail.example.org", 587, local_hostname="client.example.org", connect_timeout=5.0)
    assert first is again
    assert first == Server("mail.example.org", 587, local_hostname="client.example.org", connect_timeout=5.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"port": 25}, {"port": 26}),
        ({"tls": "none"}, {"tls": "starttls"}),
        ({"local_hostname": "a.example"}, {"local_hostname": "b.example"}),
        ({"protocol": "smtp"}, {"protocol": "lmtp"}),
        ({"overlap": True}, {"overlap": False}),
        ({}, {"connect_timeout": 1.0}),
    ],
)
def test_other_arguments_give_another(one, other):
    assert server("mail.example.org", **one) == Server("mail.example.org", **one)
    assert server("mail.example.org", **other) == Server("mail.example.org", **other)
    assert server("mail.example.org", **one) != server("mail.example.org", **other)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"port": 1}, {"port": True}),
        ({"port": 25}, {"port": 25.0}),
        ({"overlap": True}, {"overlap": 1}),
        ({"source_address": ("127.0.0.1", 0)}, {"source_address": ("127.0.0.1", False)}),
    ],
)
def test_what_is_equal_to_a_right_value_is_refused_as_ever(right, wrong):
    server("mail.example.org", **right)
    for _ in range(2):
        with pytest.raises(InputError):
            server("mail.example.org", **wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"username": "ann", "password": PASSWORD},
        {"username": "ann", "token": "ya29.a0Af"},
        {"proxy": f"socks5://ann:{PASSWORD.replace(' ', '-')}@proxy.example.org"},
        {"proxy": "socks5://ann@proxy.example.org", "proxy_password": PASSWORD},
        {"before_send": lambda octets, mail: None},
        {"dial": lambda host, port, seconds: None},
        {"allow_recipients": lambda address: True},
        {"tls": "starttls", "ssl_context": ssl.create_default_context()},
        {"without": ["CHUNKING"]},
    ],
    ids=lambda options: "-".join(options),
)
def test_a_secret_or_what_could_change_is_not_kept(options):
    first = server("mail.example.org", **options)
    again = server("mail.example.org", **options)
    assert first is not again
    assert first == again


def test_a_url_is_not_kept():
    url = "smtps://ann:secret@mail.example.org"
    assert server(url) is not server(url)


def test_a_list_that_is_changed_afterwards_changes_what_the_next_connection_does():
    keywords = ["CHUNKING"]
    before = server("mail.example.org", without=keywords)
    keywords.append("SIZE")
    assert server("mail.example.org", without=keywords).without == ("CHUNKING", "SIZE") != before.without
