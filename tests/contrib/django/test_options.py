"""Where the options come from, and what is said of those that cannot be right."""

from __future__ import annotations

import ssl
import traceback
from inspect import signature
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.test.utils import override_settings
from django.views.debug import ExceptionReporter
from support import certs
from support.django_site import BACKEND
from support.frames import is_ours
from support.ticket import Ticket

from pysmtpx import RetryPolicy, Server, SmtpPool
from pysmtpx.contrib.django import CeleryEmailBackend, EmailBackend, routes, servers
from pysmtpx.contrib.django.celery_backend import CeleryOptions
from pysmtpx.contrib.django.options import BackendOptions
from pysmtpx.testing import MailServer

pytestmark = pytest.mark.everywhere

PASSWORD = "hunter2"


def of(site: Any, **options: Any) -> Any:
    """The only server, and the pool."""
    site.use(**options)
    return site.connection().pool.servers[0], site.connection().pool


@pytest.mark.parametrize(
    ("options", "tls", "port"),
    [
        ({"port": 25}, "none", 25),
        ({"use_tls": True, "port": 587}, "starttls", 587),
        ({"use_ssl": True, "port": 465}, "implicit", 465),
        ({"use_tls": True, "port": "2525"}, "starttls", 2525),
    ],
)
def test_the_line(site: Any, options: dict[str, Any], tls: str, port: int) -> None:
    server, _ = of(site, host="mail.example.org", **options)
    assert (server.host, server.port, server.tls) == ("mail.example.org", port, tls)


@pytest.mark.parametrize(("options", "port"), [({}, 25), ({"use_tls": True}, 587), ({"use_ssl": True}, 465)])
def test_the_usual_port(site: Any, options: dict[str, Any], port: int) -> None:
    """By MAILERS as the line is; the setting EMAIL_PORT is 25 unless it says otherwise."""
    server, _ = of(site, host="mail.example.org", **options)
    assert server.port == (port if site.by_mailers else 25)


def test_everything_a_server_takes(site: Any) -> None:
    server, _ = of(
        site,
        host="mail.example.org",
        username="ann",
        password=PASSWORD,
        use_tls=True,
        timeout=12,
        auth=["scram-sha-256", "PLAIN"],
        server_hostname="smtp.example.org",
        local_hostname="www.example.org",
        source_address="127.0.0.1",
        ssl_context="support.certs.client_context",
    )
    assert (server.username, server.password) == ("ann", PASSWORD)
    assert server.auth == ("SCRAM-SHA-256", "PLAIN")
    assert server.server_hostname == "smtp.example.org"
    assert server.local_hostname == "www.example.org"
    assert server.source_address == ("127.0.0.1", 0)
    assert isinstance(server.ssl_context, ssl.SSLContext)
    assert server.connect_timeout == 12


def test_the_time_for_a_connection_of_its_own(site: Any) -> None:
    assert of(site, host="h.example", timeout=120)[0].connect_timeout == 30
    assert of(site, host="h.example", timeout=120, connect_timeout=60)[0].connect_timeout == 60


def test_everything_a_pool_takes(site: Any) -> None:
    events: list[Any] = []
    _, pool = of(
        site,
        host="h.example",
        max_connections=7,
        max_messages=100,
        max_age=None,
        max_idle=None,
        rate=10,
        recipient_rate=20,
        in_flight=2,
        balance="even",
        on_event=events.append,
        retry={"attempts": 5, "temporary": True, "retryable": "builtins.bool"},
    )
    engine = pool._engine
    assert engine.limits == (7, 100, None, None)
    assert engine.outcomes._policy == RetryPolicy(attempts=5, temporary=True, retryable=bool)
    assert (engine.in_flight, engine.connections._by_priority) == (2, False)


@pytest.mark.parametrize("overlap", [True, False])
def test_overlap_is_for_the_caller_to_ask_for(site: Any, overlap: bool) -> None:
    """FAULTS 46."""
    assert not of(site, host="h.example")[0].overlap
    assert of(site, host="h.example", overlap=overlap)[0].overlap is overlap


def test_roots_and_fingerprint(site: Any, tmp_path: Any) -> None:
    options = {"roots": tmp_path / "roots.pem", "fingerprint": ["ab" * 32]}
    server, _ = of(site, host="h.example", use_tls=True, **options)
    assert (server.roots, server.fingerprint) == (str(tmp_path / "roots.pem"), ("sha256:" + "ab" * 32,))


def test_keywords_that_count_as_not_offered(site: Any) -> None:
    server, _ = of(site, host="h.example", without=["PIPELINING", "chunking"])
    assert server.without == ("PIPELINING", "CHUNKING")


def test_numbers_as_texts_of_the_environment(site: Any) -> None:
    texts = {"connect_timeout": "12.5", "max_connections": "3", "max_idle": "7", "in_flight": "2"}
    server, pool = of(
        site, host="h.example", timeout="20", rate="1e2", retry={"attempts": "5", "unknown": "on"}, **texts
    )
    assert (server.connect_timeout, pool._engine.in_flight, pool._rate) == (12.5, 2, 100.0)
    assert pool._engine.limits.connections == 3
    assert pool._engine.limits.idle == 7.0
    assert site.connection().options.send_options["timeout"] == 20.0
    assert pool._engine.outcomes._policy == RetryPolicy(attempts=5, unknown=True)


@pytest.mark.parametrize("name", ["connect_timeout", "max_connections", "max_idle", "timeout", "port"])
def test_a_text_that_is_no_number_is_told_with_its_option(site: Any, name: str) -> None:
    for text in ("ten", "nan", "-1", "1e400", "9" * 5000):
        site.use(**{"host": "h.example", "port": 2525, name: text})
        with pytest.raises(ImproperlyConfigured, match=name):
            site.connection()


def test_a_policy_of_ones_own(site: Any) -> None:
    policy = RetryPolicy(attempts=9)
    assert of(site, host="h.example", retry=policy)[1]._engine.outcomes._policy is policy


def test_a_client_certificate(site: Any, tmp_path: Any) -> None:
    chain, key = certs.server_files(tmp_path, "client.test")
    server, _ = of(site, host="h.example", use_tls=True, ssl_certfile=chain, ssl_keyfile=str(key))
    assert server.client_certificate == (str(chain), str(key))


@pytest.mark.parametrize("own", ["support.ticket.Ticket", Ticket, Ticket()], ids=["path", "class", "object"])
def test_a_mechanism_of_ones_own(site: Any, own: Any) -> None:
    for auth in (own, ["SCRAM-SHA-512", own]):
        server, _ = of(site, host="h.example", use_tls=True, username="ann", auth=auth)
        assert server.username == "ann"
        assert isinstance(server.auth[-1], Ticket)
    assert server.auth[0] == "SCRAM-SHA-512"


WRONG: list[dict[str, Any]] = [
    {"use_tls": True, "use_ssl": True},
    {"port": 99999},
    {"port": "smtp"},
    {"timeout": -1},
    {"timeout": "soon"},
    {"max_connections": 0},
    {"rate": "fast"},
    {"rate": -1},
    {"in_flight": 0},
    {"retry": 3},
    {"retry": {"tries": 3}},
    {"retry": {"attempts": 0}},
    {"balance": "random"},
    {"auth": "NTLM", "password": PASSWORD, "username": "ann"},
    {"ssl_context": 1, "use_tls": True},
    {"ssl_context": "no.such.thing", "use_tls": True},
    {"ssl_context": "support.certs.client_context"},
    {"ssl_certfile": "/x.pem"},
    {"auth": "no.such.mechanism", "username": "ann"},
    {"auth": ["PLAIN", "os.sep"], "username": "ann"},
    {"auth": ".", "username": "ann"},
    {"token": "no.such.function", "username": "ann"},
    {"token": "os.sep", "username": "ann"},
    {"token": "support.certs.authority"},
    {"on_event": "os.sep"},
    {"max_age": -3},
    {"max_conections": 3},
    {"host": "no host"},
    {"host": []},
    {"host": 3},
    {"on_event": []},
    {"retry": {"retryable": {1}}},
    {"connect_timeout": "soon", "use_tls": True},
    {"ssl_keyfile": "key.pem", "use_tls": True},
    {"max_connections": 10**400},
    {"token": "support.certs.authority", "username": "ann", "password": PASSWORD, "use_tls": True},
    {"token": lambda: "t", "username": "ann", "password": PASSWORD, "use_tls": True},
    {"oauth": "google", "username": "ann", "password": PASSWORD, "use_tls": True},
    {"insecure_auth": "perhaps"},
    {"overlap": 1},
    {"all_or_nothing": "perhaps"},
    {"use_tls": "perhaps"},
    {"use_ssl": "perhaps"},
]


@pytest.mark.parametrize(
    ("text", "said"), [("false", False), ("True", True), ("off", False), ("", False), ("1", True)]
)
def test_true_and_false_as_texts_of_the_environment(site: Any, text: str, said: bool) -> None:
    """Of "false" Python would think that it is true: that of insecure_auth shows a password."""
    given = dict.fromkeys(("insecure_auth", "overlap", "all_or_nothing"), text)
    server, _ = of(site, host="h.example", port=2525, **given)
    assert (server.insecure_auth, server.overlap) == (said, said)
    assert site.connection().options.send_options["all_or_nothing"] is said
    server, _ = of(site, host="h.example", port=2525, use_tls=text)
    assert server.tls == ("starttls" if said else "none")


@pytest.mark.parametrize("what", ["token", "oauth"])
def test_a_password_beside_a_token_is_told_with_both_names(site: Any, what: str) -> None:
    value = (lambda: "t") if what == "token" else "google"
    site.use(host="h.example", use_tls=True, username="ann", password=PASSWORD, **{what: value})
    with pytest.raises(ImproperlyConfigured, match=f"EMAIL_HOST_PASSWORD .* and {what} are both set"):
        site.connection()


@pytest.mark.parametrize("options", WRONG, ids=lambda options: " ".join(options))
def test_what_cannot_be_right_is_told_at_once(site: Any, options: dict[str, Any]) -> None:
    """Also with fail_silently; and never with the password."""
    site.use(**{"host": "h.example", "port": 2525, "fail_silently": True, **options})
    with pytest.raises(ImproperlyConfigured) as caught:
        site.connection()
    assert PASSWORD not in str(caught.value) + repr(caught.value)
    if site.by_mailers:
        assert isinstance(caught.value, mail.InvalidMailer)  # type: ignore[attr-defined]
        assert "MAILERS['default']" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option", "setting"),
    [
        ("tls", "use_tls or use_ssl", "EMAIL_USE_TLS or EMAIL_USE_SSL"),
        ("client_certificate", "ssl_certfile", "EMAIL_SSL_CERTFILE"),
        ("password", None, "EMAIL_HOST_PASSWORD"),
        ("host", None, "EMAIL_HOST"),
    ],
)
def test_an_option_that_django_has_otherwise(site: Any, name: str, option: str | None, setting: str) -> None:
    """``did you mean proxy_password?`` would send a password where it does not belong."""
    if not site.by_mailers:
        with (
            override_settings(PYSMTPX={name: "x"}),
            pytest.raises(ImproperlyConfigured, match=f"PYSMTPX: '{name}'; it is {setting}"),
        ):
            mail.get_connection(BACKEND)
    elif option is not None:
        site.use(**{"host": "h.example", "port": 25, name: "x"})
        with pytest.raises(ImproperlyConfigured, match=f"'{name}'; it is {option}"):
            site.connection()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_conections": 3}, "did you mean max_connections?"),
        ({"usernme": "ann"}, "did you mean username?"),
        ({"retry": {"atempts": 3}}, "no such option in retry: 'atempts'; did you mean attempts?"),
    ],
)
def test_an_unknown_option_is_told_with_the_one_that_was_meant(
    site: Any, options: dict[str, Any], said: str
) -> None:
    """Also by MAILERS, where Django names the unknown one alone."""
    if not site.by_mailers and "usernme" in options:
        return  # a setting: the checks look at those
    site.use(**{"host": "h.example", "port": 2525, **options})
    with pytest.raises(ImproperlyConfigured) as caught:
        site.connection()
    assert said in str(caught.value)


def test_a_token_in_place_of_its_path_is_not_shown(site: Any) -> None:
    for token in ("eyJhbGci.eyJzdWIi.c2lnbmF0", "opaque"):
        site.use(host="h.example", use_tls=True, port=587, username="ann", token=token)
        with pytest.raises(ImproperlyConfigured) as caught:
            site.connection()
        text = "".join(traceback.format_exception(caught.value))
        assert not any(piece in text for piece in token.split("."))


def test_no_dict_of_options(site: Any) -> None:

    site.use(host="h.example")
    with override_settings(PYSMTPX=["max_connections"]):
        if site.by_mailers:  # it is not even looked at
            assert site.connection()
        else:
            with pytest.raises(ImproperlyConfigured, match="PYSMTPX must be a dict"):
                site.connection()


def test_a_mailer_needs_a_host(site: Any) -> None:
    site.use()
    if site.by_mailers:
        with pytest.raises(mail.InvalidMailer, match="host"):  # type: ignore[attr-defined]
            site.connection()
    else:
        assert site.connection().pool.servers[0].host == "localhost"  # EMAIL_HOST


def test_no_secret_is_shown(site: Any) -> None:
    server, pool = of(site, host="h.example", use_tls=True, username="ann", password=PASSWORD)
    backend = site.connection()
    assert PASSWORD not in repr(server) + repr(pool) + repr(backend) + repr(backend.options)


def test_the_servers_for_a_task(site: Any) -> None:
    site.use(host=["a.example", "b.example"], use_tls=True, port=587, username="ann", password=PASSWORD)
    found = servers("default") if site.by_mailers else servers()
    assert [(each.host, each.port, each.password) for each in found] == [
        ("a.example", 587, PASSWORD),
        ("b.example", 587, PASSWORD),
    ]
    with pytest.raises(ImproperlyConfigured):
        servers("other")
    if site.by_mailers:
        site.use(backend="django.core.mail.backends.locmem.EmailBackend")
        with pytest.raises(mail.InvalidMailer, match="knows a server"):  # type: ignore[attr-defined]
            servers("default")


def test_the_options_are_those_of_a_server_and_a_pool_under_the_names_that_django_has() -> None:
    names = {"host", "port", "username", "password", "tls", "client_certificate", "protocol", "server"}
    theirs = {*signature(Server).parameters, *signature(SmtpPool).parameters} - names - {"server_options"}
    assert set(BackendOptions.__annotations__) == theirs | {"all_or_nothing", "oauth", "servers"}
    assert BackendOptions.__annotations__.keys() <= signature(EmailBackend).parameters.keys()
    assert CeleryOptions.__annotations__.keys() <= signature(CeleryEmailBackend).parameters.keys()


def test_what_is_no_option_is_told_with_what_was_meant(site: Any) -> None:
    site.use(host="h.example", port=25, max_conections=3)
    with pytest.raises(ImproperlyConfigured, match="max_conections"):
        site.connection()
    if not site.by_mailers:
        with pytest.raises(ImproperlyConfigured, match="'max_conections'; did you mean max_connections\\?"):
            site.connection()


def test_an_unknown_option_of_a_call(site: Any) -> None:
    site.use(host="h.example", port=25)
    if site.by_mailers:
        return  # there is no such call
    for backend in (BACKEND, "pysmtpx.contrib.django.CeleryEmailBackend"):
        with pytest.raises(ImproperlyConfigured, match="no such option: 'max_conections'"):
            mail.get_connection(backend, max_conections=3, another=None)


@pytest.mark.parametrize(
    "wrong", [{"port": "smtp"}, {"rate": -1}, {"password": PASSWORD + "\n"}, {"auth": {"PLAIN"}}]
)
def test_error_pages_show_no_secret(site: Any, wrong: dict[str, Any]) -> None:
    """They have the variables of every frame; those of Django itself are not looked at."""
    site.use(**{"host": "h.example", "username": "ann", "password": PASSWORD, "use_tls": True, **wrong})
    try:
        site.connection()
    except ImproperlyConfigured as error:
        reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
        for frame in reporter.get_traceback_frames():
            if is_ours(frame["filename"]):
                shown = [name for name, value in frame["vars"] if PASSWORD in str(value)]
                assert not shown, frame["function"]
    else:
        pytest.fail("nothing was raised")


def test_servers_with_weights_limits_and_credentials_of_their_own(site: Any) -> None:
    """Of Django's own options only the certificate and the time-out are for them."""
    listed = [
        "smtps://ann:one@a.example?weight=3&max_connections=2&rate=5",
        {"url": "smtp://b.example", "username": "bob", "password": "two", "local_hostname": "b.example.org"},
    ]
    site.use(
        host="ignored.example",
        username="ignored",
        password="ignored",
        servers=listed,
        balance="weighted",
        local_hostname="www.example.org",
        timeout=7,
    )
    pool = site.connection().pool
    first, second = pool.routes
    assert (first.weight, first.max_connections, first.rate) == (3, 2, 5)
    assert (first.server.tls, first.server.username, first.server.password) == ("implicit", "ann", "one")
    assert (second.server.tls, second.server.username, second.server.password) == ("starttls", "bob", "two")
    assert [each.local_hostname for each in pool.servers] == ["www.example.org", "b.example.org"]
    assert {each.connect_timeout for each in pool.servers} == {7}
    assert site.connection().pool is pool


@pytest.mark.parametrize(
    "wrong",
    ["smtp://a.example", [{"weight": 1}], ["smtp://a.example?weight=s3cret"], [{"host": "a", "x": 1}]],
)
def test_what_is_no_list_of_servers(site: Any, wrong: Any) -> None:
    site.use(host="h.example", servers=wrong)
    with pytest.raises(ImproperlyConfigured) as caught:
        site.connection()
    assert "s3cret" not in str(caught.value)


def test_mail_goes_by_the_listed_servers(site: Any) -> None:
    with MailServer(replies={"MAIL": "452 4.7.1 too much"}) as first, MailServer() as second:
        site.use(servers=[first.url, {"url": second.url, "weight": 2}], retry={"quota_rest": 60.0})
        assert site.connection().send_messages([EmailMessage("s", "b", "s@x.example", ["a@x.example"])]) == 1
        assert len(second.messages) == 1
        found = routes(site.connection().alias)
        assert [each.weight for each in found] == [1, 2]
        assert [each.server for each in found] == servers(site.connection().alias)


def test_what_is_said_of_one_server_wins(site: Any) -> None:
    listed = ["smtp://b:p@h.example?insecure_auth=false", {"host": "a.example", "insecure_auth": False}]
    site.use(host="localhost", port=25, servers=[*listed, "c.example"], insecure_auth=True)
    found = routes(site.connection().alias)
    assert [each.server.insecure_auth for each in found] == [False, False, True]


def test_an_account_goes_to_no_other_server(site: Any) -> None:
    listed = ["smtps://a.example", "smtps://bob:b@b.example", "smtps://ann@c.example"]
    site.use(host="localhost", port=587, username="ann", password="of ann", use_tls=True, servers=listed)
    found = routes(site.connection().alias)
    expected = [(None, None), ("bob", "b"), ("ann", "of ann")]
    assert [(each.server.username, each.server.password) for each in found] == expected
