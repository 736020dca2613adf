"""URLs of servers: read, written, and never with a secret."""

from __future__ import annotations

import traceback
from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import InputError
from pysmtpx.server import Server

SECRET = "s3cr3t-Zeta"


def account(**more: object) -> Server:
    return Server("mail.example.org", username="ann", password=SECRET, **more)  # type: ignore[arg-type]


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "server"),
        [
            ("smtp://mail.example.org", Server("mail.example.org")),
            ("SMTP://Mail.Example.org:25/", Server("mail.example.org", 25)),
            ("smtp://mail.example.org:465", Server("mail.example.org", 465, tls="implicit")),
            ("smtps://mail.example.org", Server("mail.example.org", 465, tls="implicit")),
            ("smtps://mail.example.org?tls=implicit", Server("mail.example.org", 465, tls="implicit")),
            ("smtp://m.example?insecure_auth=true", Server("m.example", insecure_auth=True)),
            ("lmtp://m.example", Server("m.example", protocol="lmtp")),
            ("lmtp+unix:///run/dovecot%20x/lmtp", Server("/run/dovecot x/lmtp", protocol="lmtp")),
            ("smtp://[2001:db8::1]:2525", Server("2001:db8::1", 2525)),
            ("smtp://a%40b:p%2F%3A%C3%A9@m.example", Server("m.example", username="a@b", password="p/:é")),
            ("smtp://a+b:c+d@m.example", Server("m.example", username="a+b", password="c+d")),
            (
                "smtp://a:b@m.test?auth=SCRAM-SHA-256,PLAIN&authzid=c+d",
                Server("m.test", username="a", password="b", auth=("SCRAM-SHA-256", "PLAIN"), authzid="c+d"),
            ),
            ("smtp://m.example?connect_timeout=2.5", Server("m.example", connect_timeout=2.5)),
            ("smtp://m.example?local_hostname=me.example", Server("m.example", local_hostname="me.example")),
            ("smtp://m.example?server_hostname=x.example", Server("m.example", server_hostname="x.example")),
            ("smtp://m.example?source_address=10.0.0.1", Server("m.example", source_address="10.0.0.1")),
            ("smtp://m.test?source_address=10.0.0.1:9", Server("m.test", source_address=("10.0.0.1", 9))),
            ("smtp://m.example?source_address=::1", Server("m.example", source_address="::1")),
            ("smtp://m.example?source_address=[::1]:9", Server("m.example", source_address=("::1", 9))),
            ("smtp://m.example?source_address=[::1]", Server("m.example", source_address="::1")),
        ],
    )
    def test_read(self, url, server):
        assert Server.from_url(url) == server

    @pytest.mark.parametrize(
        "url",
        [
            "mail.example.org",
            "http://m.example",
            "smtp:m.example",
            "smtp://",
            "smtp://m.example/path",
            "smtp://m.example#x",
            "smtp://m.example#",
            "smtp://m.example:0",
            "smtp://m.example:99999",
            "smtp://m.example:x",
            "smtp://m.example?colour=red",
            "smtp://m.example?tls",
            "smtp://m.example?tls=none&tls=starttls",
            "smtps://m.example?tls=none",
            "smtp://m.example?insecure_auth=perhaps",
            "smtp://m.example?connect_timeout=soon",
            "smtp://m.example?connect_timeout=inf",
            "smtp://m.example?source_address=10.0.0.1:x",
            "smtp://m.example?auth=",
            "smtp://m.example?password=x",
            "smtp://ann@m.example",
            "smtp://ann:%00@m.example",
            "smtp://ann:%0d%0a@m.example",
            "smtp://ann:%FF@m.example",
            "smtp://ann:100%@m.example",
            "smtp://ann:a%4@m.example",
            "smtp://m.example\r\n",
            "\tsmtp://m.example",
            "smtp://m .example",
            "smtp://m%0d%0aQUIT.example",
            "smtp://%2Frun%2Fx",
            "lmtp+unix://host/run/x",
            "lmtp+unix://",
            "lmtp+unix:run",
            "lmtp+unix:///run/%00",
            "smtp://[::1",
            None,
            b"smtp://m.example",
        ],
    )
    def test_refused(self, url):
        """FAULTS 100."""
        with pytest.raises(InputError):
            Server.from_url(url)

    @pytest.mark.parametrize("broken", ["/", "?", "#", "/@", "?x=", *"[]%@:＠\\ \n"])
    @pytest.mark.parametrize("where", ["{0}{1}", "{1}{0}", "12{1}{0}", "{0}{1}{0}"])
    def test_no_error_repeats_a_password_that_was_not_encoded(self, broken, where):
        """FAULTS 85."""
        try:
            server = Server.from_url(f"smtp://ann:{where.format(SECRET, broken)}@m.example?bad=1")
        except InputError as error:
            shown = "".join(traceback.format_exception(error))
            while error is not None:
                shown += repr(error.args)
                error = error.__context__
            assert SECRET not in shown
        else:
            pytest.fail(f"an unknown option went unseen: {server}")

    @pytest.mark.parametrize(("option", "meant"), [("timeout", "connect_timeout"), ("overlapp", "overlap")])
    def test_the_option_that_was_meant(self, option, meant):
        with pytest.raises(InputError, match=f"unknown option; did you mean {meant}\\?"):
            Server.from_url(f"smtp://m.example?{option}=3")

    def test_overrides_win(self):
        server = Server.from_url("smtp://ann:x@m.example?tls=none", password="y", tls="implicit")
        assert server == Server("m.example", username="ann", password="y", tls="implicit")

    def test_url_has_no_secret(self):
        assert account().url == "smtp://ann@mail.example.org:587"
        assert account(tls="none").url == "smtp://ann@mail.example.org:587?tls=none"
        assert SECRET not in Server("localhost", username="a", token=SECRET).url

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20))
    def test_any_password_survives(self, password):
        url = f"smtp://{quote(password, safe='')}:{quote(password, safe='')}@m.example"
        server = Server.from_url(url)
        assert (server.username, server.password) == (password, password)
        assert Server.from_url(server.url, password=password) == server

    @pytest.mark.parametrize("name", ["redirect_to", "allow_recipients"])
    @pytest.mark.parametrize(
        "paths",
        [
            ['"a,b"@x.example', "c@x.example"],
            ["c@x.example", r'"a\",b"@x.example', r'"\\"@x.example', "d@x.example"],
            [r'",,\\\","@x.example'],
        ],
    )
    def test_an_address_may_hold_a_comma(self, name, paths):
        server = Server("mail.example.org", **{name: paths})
        assert [str(path) for path in getattr(server, name)] == paths
        assert Server.from_url(server.url) == server
        assert server.replace(overlap=True).replace(overlap=False) == server

    def test_round_trip(self):
        choices = product(
            ["mail.example.org", "::1", "/run/a b?#%"],
            ["smtp", "lmtp"],
            [None, "none", "opportunistic"],
            [None, ("10.0.0.1", 9), ("::1", 0)],
            [None, "me.example", "[IPv6:::1]"],
        )
        for host, protocol, tls, source, name in choices:
            is_path = host.startswith("/")
            if host == "::1" and source == ("10.0.0.1", 9):
                continue  # no line has both kinds of address
            server = Server(
                host,
                protocol=protocol,
                tls="none" if is_path else tls,
                source_address=None if is_path else source,
                local_hostname=name,
                connect_timeout=7,
                insecure_auth=True,
                auth="EXTERNAL",
                port=0 if is_path else None,
            )
            assert Server.from_url(server.url) == server


@pytest.mark.parametrize("name", ["weight", "max_connections", "max_messages", "rate", "recipient_rate"])
def test_what_is_for_a_pool_is_told_as_such(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} in a URL is for SmtpPool and Route"):
        Server.from_url(f"smtp://mail.example.org?{name}=3")
