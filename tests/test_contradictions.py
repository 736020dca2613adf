"""Two options that contradict each other: refused by their names before anything is dialled, by every face.

Each pair of options of a server is tried. What is not among ``REFUSED`` must be taken, and both must hold
then as each alone does: none is silently dropped or changed for the other. A new option, or one that is
refused beside another, needs its row here.
"""

from __future__ import annotations

import socket
import ssl
from itertools import combinations
from typing import Any

import pytest

from pysmtpx import InputError, RetryPolicy, Route, Server, SmtpPool, connect
from pysmtpx.contrib.flask.settings import MailSettings
from pysmtpx.options import ROUTE_DEFAULTS, SERVER_DEFAULTS
from pysmtpx.pooling.arguments import OWN_DEFAULTS

HOST = "mail.example.org"
CONTEXT = ssl.create_default_context()
PRINT = "sha256:" + "ab" * 32


def hook(octets, mail):
    return None


def dial(host, port, seconds):
    raise AssertionError("nothing is dialled here")


ROWS: dict[str, dict[str, Any]] = {
    "host: UNIX": {"host": "/run/mail"},
    "host: process": {"host": "memory://mail"},
    "host: IPv4": {"host": "192.0.2.1"},
    "host: IPv6": {"host": "2001:db8::1"},
    "port": {"port": 2525},
    "protocol: lmtp": {"protocol": "lmtp"},
    "tls: implicit": {"tls": "implicit"},
    "tls: starttls": {"tls": "starttls"},
    "tls: opportunistic": {"tls": "opportunistic"},
    "tls: none": {"tls": "none"},
    "username": {"username": "ann"},
    "password": {"password": "secret"},
    "token": {"token": "t0ken"},
    "auth: password": {"auth": "SCRAM-SHA-256"},
    "auth: CRAM-MD5": {"auth": "CRAM-MD5"},
    "auth: bound": {"auth": "SCRAM-SHA-256-PLUS"},
    "auth: token": {"auth": "XOAUTH2"},
    "auth: outside": {"auth": ["EXTERNAL", "GSSAPI"]},
    "auth: any": {"auth": ["XOAUTH2", "PLAIN", "EXTERNAL"]},
    "authzid": {"authzid": "bob"},
    "insecure_auth": {"insecure_auth": True},
    "ssl_context": {"ssl_context": CONTEXT},
    "client_certificate": {"client_certificate": "own.pem"},
    "server_hostname": {"server_hostname": "mx.example.org"},
    "roots": {"roots": "certifi"},
    "roots: fingerprint": {"roots": "fingerprint"},
    "fingerprint": {"fingerprint": PRINT},
    "local_hostname": {"local_hostname": "www.example.org"},
    "source_address: IPv4": {"source_address": "192.0.2.9"},
    "source_address: IPv6": {"source_address": "2001:db8::9"},
    "proxy": {"proxy": "socks5://proxy.example.org"},
    "proxy_password": {"proxy_password": "secret"},
    "dial": {"dial": dial},
    "connect_timeout": {"connect_timeout": 5.0},
    "overlap": {"overlap": True},
    "without: AUTH": {"without": "AUTH"},
    "without: STARTTLS": {"without": "STARTTLS"},
    "without: others": {"without": "PIPELINING,CHUNKING"},
    "before_send": {"before_send": hook},
    "redirect_to": {"redirect_to": "dev@example.org"},
    "allow_recipients": {"allow_recipients": ["example.org"]},
}
"""An option, or a value of it that is special, with what it is."""

ALONE: dict[str, str] = {
    "username": "username without password or token",
    "password": "password without username",
    "token": "token without username",
    "auth: password": "auth or authzid without username and password",
    "auth: CRAM-MD5": "auth or authzid without username and password",
    "auth: bound": "auth or authzid without username and password",
    "auth: token": "auth or authzid without username and password",
    "authzid": "auth or authzid without username and password",
    "roots: fingerprint": "no fingerprint was given",
    "proxy_password": "proxy_password without",
    "without: STARTTLS": "without STARTTLS",
}
"""What says nothing without another, or contradicts what holds by default, and the error."""
BASE: dict[str, dict[str, Any]] = {
    "username": {"password": "secret"},
    "password": {"username": "ann"},
    "token": {"username": "ann"},
    **{name: {"username": "ann", "password": "secret"} for name in ("auth: password", "auth: CRAM-MD5")},
    "auth: bound": {"username": "ann", "password": "secret"},
    "auth: token": {"username": "ann", "token": "t0ken"},
    "authzid": {"username": "ann", "password": "secret"},
    "roots: fingerprint": {"fingerprint": PRINT},
    "proxy_password": {"proxy": "socks5://ann@proxy.example.org"},
    "without: STARTTLS": {"tls": "implicit"},
}
"""What each of these has beside it, unless the other of the pair says so."""

_TLS = ("ssl_context", "client_certificate", "server_hostname", "roots", "roots: fingerprint", "fingerprint")
_ACCOUNT = ("username", "password", "token", "authzid")
_AUTH = ("auth: password", "auth: CRAM-MD5", "auth: bound", "auth: token", "auth: outside", "auth: any")
_PASSWORD = ("auth: password", "auth: CRAM-MD5", "auth: bound")
_WAY = ("proxy", "proxy_password", "dial")

REFUSED: dict[tuple[str, str], str] = {
    # A UNIX socket and a server of this process have no way to them, and no TLS unless somebody asks for it.
    **{("host: UNIX", name): "neither by a proxy nor by dial" for name in _WAY},
    **{("host: process", name): "neither by a proxy nor by dial" for name in _WAY},
    **{("host: UNIX", name): "TLS is off here" for name in _TLS},
    **{
        ("host: UNIX", f"tls: {mode}"): "needs server_hostname"
        for mode in ("implicit", "starttls", "opportunistic")
    },
    **{("host: UNIX", f"source_address: {kind}"): "no source_address" for kind in ("IPv4", "IPv6")},
    ("host: UNIX", "port"): "port",
    ("host: UNIX", "auth: bound"): "TLS is off here",
    ("host: UNIX", "without: STARTTLS"): "needs server_hostname",
    **{("host: process", name): "takes no" for name in (*_TLS, *_ACCOUNT, *_AUTH, "protocol: lmtp")},
    **{
        ("host: process", f"tls: {mode}"): "takes no tls"
        for mode in ("implicit", "starttls", "opportunistic")
    },
    **{("host: process", f"source_address: {kind}"): "takes no" for kind in ("IPv4", "IPv6")},
    ("host: process", "port"): "port",
    ("host: process", "without: STARTTLS"): "takes no tls",
    # Two ends of one line.
    ("host: IPv4", "source_address: IPv6"): "source_address and host",
    ("host: IPv6", "source_address: IPv4"): "source_address and host",
    ("proxy", "dial"): "dial stands in the place of proxy",
    ("proxy_password", "dial"): "dial stands in the place of proxy",
    **{("dial", f"source_address: {kind}"): "dial stands in the place" for kind in ("IPv4", "IPv6")},
    ("proxy", "proxy_password"): "without a user in the proxy's URL",
    # TLS that is off, or whose roots are said twice.
    **{("tls: none", name): "TLS is off here" for name in (*_TLS, "auth: bound")},
    **{
        ("tls: opportunistic", name): "tls is opportunistic" for name in ("fingerprint", "roots: fingerprint")
    },
    **{(f"tls: {mode}", "without: STARTTLS"): "without STARTTLS" for mode in ("starttls", "opportunistic")},
    ("ssl_context", "client_certificate"): "ssl_context",
    **{("ssl_context", name): "an ssl_context has its own roots" for name in ("roots", "roots: fingerprint")},
    # Whom to log in as, and by what.
    ("password", "token"): "password and token",
    **{("token", name): "no mechanism of auth takes one" for name in _PASSWORD},
    **{("password", name): "no mechanism of auth takes one" for name in ("auth: outside",)},
    **{("token", name): "no mechanism of auth takes one" for name in ("auth: outside",)},
    ("username", "auth: outside"): "no mechanism of auth takes one",
    ("password", "auth: token"): "no mechanism of auth takes one",
    ("auth: CRAM-MD5", "authzid"): "no mechanism of auth can carry one",
    ("auth: token", "authzid"): "no mechanism of auth can carry one",
    ("authzid", "auth: outside"): "no mechanism of auth takes one",
    **{(name, "without: AUTH"): "without AUTH" for name in (*_ACCOUNT, *_AUTH)},
}


def kwargs(*names: str) -> dict[str, Any] | None:
    """The options of these rows; None if they say two things of one."""
    given: dict[str, Any] = {}
    for name in names:
        if given.keys() & ROWS[name].keys():
            return None
        given |= ROWS[name]
    beside: dict[str, Any] = {}
    for name in names:
        beside |= BASE.get(name, {})
    # Whoever gives a token has no password beside it.
    if "token" in given or ("token" in beside and "password" not in given):
        beside.pop("password", None)
    if "password" in given:
        beside.pop("token", None)
    return {"host": HOST, **beside, **given}


PAIRS = [pair for pair in combinations(ROWS, 2) if kwargs(*pair) is not None]


def test_each_option_has_a_row():
    named = {name for row in ROWS.values() for name in row}
    assert named == {"host", "port", *SERVER_DEFAULTS}
    assert all(len(row) == 1 for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_alone(name):
    given = {"host": HOST, **ROWS[name]}
    if name in ALONE:
        with pytest.raises(InputError, match=ALONE[name]):
            Server(**given)
        given |= BASE[name]
    Server(**given)


def expected(pair):
    return REFUSED.get(pair) or REFUSED.get(pair[::-1])


def test_each_pair_that_is_refused_is_one():
    known = {frozenset(pair) for pair in PAIRS}
    assert {frozenset(pair) for pair in REFUSED} <= known
    assert len({frozenset(pair) for pair in REFUSED}) == len(REFUSED)


def test_a_pair_is_refused_by_name_or_both_hold():
    wrong = []
    for pair in PAIRS:
        given, said = kwargs(*pair), expected(pair)
        try:
            made = Server(**given)
        except InputError as error:
            if said is None or said not in str(error):
                wrong.append((pair, str(error)))
            continue
        if said is not None:
            wrong.append((pair, "taken"))
        for name in pair:
            alone = Server(**{"host": HOST, **BASE.get(name, {}), **ROWS[name]})
            for option in ROWS[name]:
                if getattr(made, option) != getattr(alone, option):
                    wrong.append((pair, option))
    assert wrong == []


@pytest.fixture
def nothing_is_dialled(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("dialled")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def replaced(**given):
    return Server(given.pop("host")).replace(**given)


def by_url(**given):
    host = given.pop("host")
    return Server.from_url(f"smtp://{f'[{host}]' if ':' in host else host}", **given)


FACES = {
    "connect": lambda **given: connect(given.pop("host"), **given),
    "from_url": by_url,
    "replace": replaced,
    "SmtpPool": lambda **given: SmtpPool(given.pop("host"), **given),
    "Route": lambda **given: Route.of(given),
}


@pytest.mark.usefixtures("nothing_is_dialled")
@pytest.mark.parametrize("face", FACES)
def test_every_face_refuses_the_same_before_anything_is_dialled(face):
    for pair in REFUSED:
        given = kwargs(*pair)
        if (
            face in ("from_url", "connect", "replace", "Route", "SmtpPool")
            and "port" in pair
            and "host" in pair[0]
        ):
            continue  # the place is what they are given
        if face == "from_url" and pair[0] in ("host: UNIX", "host: process"):
            continue  # these have URLs of their own
        with pytest.raises(InputError):
            FACES[face](**given)


FLASK = {"host": "MAIL_SERVER", "username": "MAIL_USERNAME", "password": "MAIL_PASSWORD", "port": "MAIL_PORT"}


def test_flask_refuses_the_same():
    """But for what is not its own to say: TLS by two keys, a user without a secret is nobody."""
    for pair in REFUSED:
        given = kwargs(*pair)
        if given.keys() & {"protocol", "tls"} or given["host"] != HOST or pair[1] == "without: AUTH":
            continue
        keys = {FLASK.get(name, f"MAIL_{name.upper()}"): value for name, value in given.items()}
        with pytest.raises(InputError):
            MailSettings({"MAIL_USE_TLS": True, **keys})._pool()


OF_POOL: dict[str, Any] = {
    "max_connections": 1,
    "max_messages": 1,
    "max_age": 1.0,
    "max_idle": 3600.0,
    "max_reconnect_delay": 0.1,
    "rate": 0.5,
    "recipient_rate": 1e6,
    "balance": "weighted",
    "in_flight": 100,
    "max_queued": 1,
    "journal": None,
    "on_event": print,
}
"""Each at an end of its range; limits are limits together, and the smaller one holds."""
OF_ROUTE = {"weight": 3.0, "max_connections": 9, "max_messages": 9, "rate": 9.0, "recipient_rate": 0.5}
OF_RETRY: dict[str, Any] = {
    **{"attempts": 1, "backoff": 9.0, "max_backoff": 1.0, "jitter": 1.0, "total": 0.5, "temporary": True},
    **{"unknown": True, "move_on": "never", "quota_rest": 0.0, "retryable": bool},
}


def test_the_options_of_a_pool_go_together(tmp_path):
    """None contradicts another, or an option of a server: what two of them mean together is documented."""
    assert OF_POOL.keys() == OWN_DEFAULTS.keys()
    assert OF_ROUTE.keys() == ROUTE_DEFAULTS.keys()
    assert OF_RETRY.keys() == RetryPolicy.__dataclass_fields__.keys()
    of_pool = {**OF_POOL, "journal": tmp_path / "journal"}
    for one, other in combinations(of_pool, 2):
        SmtpPool(HOST, **{one: of_pool[one], other: of_pool[other]}).close(0)
    for name in ROWS:
        if "host" not in ROWS[name]:
            SmtpPool(HOST, **{**OF_POOL, **BASE.get(name, {}), **ROWS[name]}).close(0)
    for one, other in combinations(OF_ROUTE, 2):
        SmtpPool(
            Route(HOST, **{one: OF_ROUTE[one], other: OF_ROUTE[other]}), max_connections=2, rate=1.0
        ).close(0)
    for one, other in combinations(OF_RETRY, 2):
        RetryPolicy(**{one: OF_RETRY[one], other: OF_RETRY[other]})
