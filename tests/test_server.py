"""Server: defaults, checks, URLs, and that no secret is ever shown."""

from __future__ import annotations

import pickle
import ssl
import traceback

import pytest

from pysmtpx.errors import InputError
from pysmtpx.oauth import Cached
from pysmtpx.server import Server
from pysmtpx.wire.capabilities import Protocol

SECRET = "s3cr3t-Zeta"
LOOPBACK = ["localhost", "LocalHost", "mail.localhost", "127.0.0.1", "127.9.8.7", "::1", "[::1]"]


def account(**more: object) -> Server:
    return Server("mail.example.org", username="ann", password=SECRET, **more)  # type: ignore[arg-type]


class TestDefaults:
    @pytest.mark.parametrize(
        ("arguments", "port", "tls"),
        [
            ({}, 587, "starttls"),
            ({"port": 25}, 25, "starttls"),
            ({"port": 465}, 465, "implicit"),
            ({"port": 465, "tls": "starttls"}, 465, "starttls"),
            ({"tls": "implicit"}, 465, "implicit"),
            ({"tls": "opportunistic"}, 587, "opportunistic"),
            ({"tls": "none"}, 587, "none"),
            ({"protocol": "lmtp"}, 24, "starttls"),
            ({"protocol": "lmtp", "tls": "implicit"}, 24, "implicit"),
        ],
    )
    def test_remote(self, arguments, port, tls):
        server = Server("mail.example.org", **arguments)
        assert (server.port, server.tls) == (port, tls)

    @pytest.mark.parametrize("host", LOOPBACK)
    def test_loopback(self, host):
        server = Server(host)
        assert (server.port, server.tls, server.is_local) == (25, "none", True)
        assert Server(host, 465).tls == "implicit"
        assert Server(host, tls="starttls").tls == "starttls"

    @pytest.mark.parametrize("host", ["localhost.example.org", "notlocalhost", "128.0.0.1", "::2"])
    def test_what_only_looks_like_loopback_gets_tls(self, host):
        server = Server(host)
        assert (server.tls, server.is_local) == ("starttls", False)

    def test_unix_socket(self):
        server = Server("/run/dovecot/lmtp", protocol="lmtp")
        assert (server.path, server.port, server.tls) == ("/run/dovecot/lmtp", 0, "none")
        assert server.is_local
        assert Server("mail.example.org").path is None

    def test_protocol_is_the_enumeration(self):
        assert Server("localhost").protocol is Protocol.SMTP
        assert Server("localhost", protocol=Protocol.LMTP) == Server("localhost", protocol="lmtp")

    def test_the_time_limit_is_finite(self):
        assert Server("localhost").connect_timeout == 30.0


class TestHost:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("MAIL.example.org.", "mail.example.org"),
            ("faß.de", "xn--fa-hia.de"),
            ("mail_relay", "mail_relay"),
            ("[2001:DB8::0:1]", "2001:db8::1"),
            ("192.0.2.1", "192.0.2.1"),
        ],
    )
    def test_one_spelling(self, given, kept):
        """FAULTS 70, 106."""
        assert Server(given).host == kept
        assert Server("10.0.0.1", tls="implicit", server_hostname=given).server_hostname == kept

    @pytest.mark.parametrize(
        "host",
        [
            *("", " ", ".", "a b", "a..b", "x＞evil", "x＠evil.com", "a\u3000b", "é\ud800", None, 5),
            *("mail\r\nQUIT", "mail\0", "[192.0.2.1]", "[::1", "fe80::1%\r\n"),
            *("a/b", "user@host", "smtp://host", "/run/x\0y", "/run/x\ny"),
        ],
    )
    def test_refused(self, host):
        """FAULTS 100, 106."""
        with pytest.raises(InputError):
            Server(host)

    def test_a_url_in_place_of_a_host_is_not_shown(self):
        with pytest.raises(InputError) as caught:
            Server(f"smtp://ann:{SECRET}@mail.example.org")
        assert SECRET not in "".join(traceback.format_exception(caught.value))


class TestChecks:
    @pytest.mark.parametrize("port", [-1, 0, 65536, 25.0, "25", True])
    def test_port(self, port):
        with pytest.raises(InputError):
            Server("localhost", port)

    @pytest.mark.parametrize(
        "seconds", [0, -1, float("inf"), float("nan"), None, "30", True, pytest.param(10**400, id="huge")]
    )
    def test_connect_timeout(self, seconds):
        with pytest.raises(InputError):
            Server("localhost", connect_timeout=seconds)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"tls": "ssl"},
            {"tls": True},
            {"protocol": "http"},
            {"password": SECRET},
            {"token": SECRET},
            {"username": "ann"},
            {"username": "ann", "password": ""},
            {"username": "ann", "password": SECRET, "token": SECRET},
            {"username": "ann\0", "password": SECRET},
            {"username": "ann", "password": "a\r\nb"},
            {"username": "ann", "password": "a\ud800"},
            {"auth": "PLAIN"},
            {"authzid": "bob"},
            {"auth": "ROT13", "username": "ann", "password": SECRET},
            {"local_hostname": "a b"},
            {"local_hostname": "a\r\nMAIL"},
            {"local_hostname": ""},
            {"local_hostname": "[not.an.address]"},
            {"server_hostname": "a\0b"},
            {"source_address": "mail.example.org"},
            {"source_address": ("10.0.0.1",)},
            {"source_address": ("10.0.0.1", 65536)},
            {"source_address": ("10.0.0.1\n", 0)},
            {"tls": "none", "server_hostname": "mail.example.org"},
            {"fingerprint": []},
            {"fingerprint": ()},
            {"auth": [], "username": "ann", "password": SECRET},
            {"auth": iter(()), "username": "ann", "password": SECRET},
        ],
    )
    def test_refused_before_anything_is_dialled(self, arguments):
        """FAULTS 84, 100."""
        with pytest.raises(InputError) as caught:
            Server("mail.example.org", **arguments)
        assert SECRET not in str(caught.value)

    def test_a_context_without_tls_is_refused(self):
        context = ssl.create_default_context()
        with pytest.raises(InputError, match="TLS is off"):
            Server("localhost", ssl_context=context)
        assert Server("localhost", tls="starttls", ssl_context=context).ssl_context is context

    @pytest.mark.parametrize("arguments", [{"port": 25}, {"source_address": "10.0.0.1"}, {"tls": "starttls"}])
    def test_a_unix_socket_has_no_port_source_or_name(self, arguments):
        with pytest.raises(InputError):
            Server("/run/x", **arguments)

    def test_tls_on_a_unix_socket_takes_a_name(self):
        assert Server("/run/x", tls="implicit", server_hostname="a.example").tls == "implicit"

    @pytest.mark.parametrize(
        ("given", "kept"),
        [("10.0.0.1", ("10.0.0.1", 0)), (("::1", 5), ("::1", 5)), (("", 25), ("", 25))],
    )
    def test_source_address(self, given, kept):
        assert Server("localhost", source_address=given).source_address == kept

    def test_local_hostname(self):
        assert Server("localhost", local_hostname="müller.example").local_hostname == "xn--mller-kva.example"
        assert Server("localhost", local_hostname="[192.0.2.1]").local_hostname == "[192.0.2.1]"

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::1", "[IPv6:2001:db8::1]"),
            ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
            ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ],
    )
    def test_an_address_of_ours_is_said_as_a_literal(self, given, said):
        """RFC 5321 4.1.3."""
        server = Server("localhost", local_hostname=given)
        assert server.local_hostname == said
        assert Server.from_url(server.url).local_hostname == said


class TestCredentials:
    @pytest.mark.parametrize("name", ["password", "token"])
    def test_the_class_of_a_provider_is_no_provider(self, name):
        """It has what a provider has, and failed as it was asked, by a TypeError."""
        with pytest.raises(InputError, match=f"the {name} is the class Cached: give an object of it"):
            Server("mail.example.org", username="ann", **{name: Cached})

    def test_none(self):
        assert Server("localhost").credentials is None

    def test_password(self):
        credentials = account(auth=["scram-sha-256", "PLAIN"], authzid="bob").credentials
        assert credentials is not None
        assert (credentials.username, credentials.password) == ("ann", SECRET)
        assert credentials.mechanisms == ("SCRAM-SHA-256", "PLAIN")
        assert (credentials.authzid, credentials.token) == ("bob", None)

    def test_token_from_a_function(self):
        credentials = Server("localhost", username="ann", token=lambda: SECRET).credentials
        assert credentials is not None
        assert credentials.ready().token == SECRET

    def test_external_needs_no_secret(self):
        credentials = Server("localhost", auth="EXTERNAL").credentials
        assert credentials is not None
        assert credentials.mechanisms == ("EXTERNAL",)


class TestValue:
    def test_the_port_of_a_unix_socket_may_be_said(self):
        assert Server("/run/x", 0) == Server("/run/x")

    def test_frozen(self):
        with pytest.raises(AttributeError):
            Server("localhost").port = 1  # type: ignore[misc]
        assert not hasattr(Server("localhost"), "__dict__")

    def test_equality_and_pickle(self):
        server = account(source_address="10.0.0.1", auth="PLAIN")
        assert pickle.loads(pickle.dumps(server)) == server
        assert hash(account()) == hash(account())
        assert account() != account(tls="implicit")

    def test_replace(self):
        server = account()
        assert server.replace(tls="implicit").port == 465
        assert server.replace(port=465).tls == "implicit"
        assert server.replace(port=2525).tls == "starttls"
        assert server.replace(host="localhost").tls == "none"
        assert server.replace(protocol="lmtp").port == 24
        implicit = Server.from_url("smtps://mail.example.org")
        for changes in ({"username": "u", "password": "p"}, {"host": "other.example.org"}, {"overlap": True}):
            changed = implicit.replace(**changes)  # type: ignore[arg-type]
            assert (changed.port, changed.tls) == (465, "implicit"), "nothing was said against it"
        assert implicit.replace(tls="starttls").port == 587
        assert implicit.replace(port=587).tls == "starttls"
        assert server.replace(password="x").credentials.password == "x"  # type: ignore[union-attr]
        assert account(port=2525, tls="none").replace(host="other.example") == Server(
            "other.example", 2525, tls="none", username="ann", password=SECRET
        )
        with pytest.raises(InputError):
            server.replace(username=None)
        assert Server("a.example:2525").replace(host="b.example:26").port == 26

    def test_what_is_none_is_as_what_is_not_given(self):
        given = dict.fromkeys(("auth", "fingerprint", "without", "tls", "roots", "redirect_to"))
        assert Server("mail.example.org", **given) == Server("mail.example.org")

    def test_nobody_stays_nobody_in_a_copy(self):
        server = Server("mail.example.org", allow_recipients=[])
        assert server.allow_recipients == server.replace(port=2525).allow_recipients == ()

    def test_the_password_of_a_proxy_goes_to_no_other_one(self):
        server = Server("mail.example.org", proxy="socks5://u@one.example", proxy_password=SECRET)
        assert server.replace(overlap=True).proxy_password == SECRET
        assert server.replace(proxy=None).proxy_password is None
        assert server.replace(proxy="socks5://two.example").proxy_password is None

    def test_port_465_and_its_tls_stay_where_something_else_is_changed(self):
        """Each is the default where the other was given: dropped both, the copy went to port 587."""
        for server in (Server("m.example", 465), Server("m.example", tls="implicit")):
            assert server.replace() == server
            assert server.replace(username="ann", password="x").port == 465
            assert server.replace(host="other.example") == Server("other.example", 465)
            assert server.replace(tls="starttls") == Server("m.example")
            assert server.replace(port=587) == Server("m.example")

    def test_repr_shows_what_matters_and_no_secret(self):
        """FAULTS 85."""
        assert repr(account(auth="PLAIN")) == (
            "Server('mail.example.org', 587, protocol='smtp', tls='starttls', username='ann',"
            " password='***', auth=('PLAIN',), connect_timeout=30.0)"
        )
        assert "token='***'" in repr(Server("localhost", username="ann", token=SECRET))
