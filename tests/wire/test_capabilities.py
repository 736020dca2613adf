"""What a server offers (RFC 5321 4.1.1.1), from well-formed and from odd replies."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.reply import Reply


def offered(*lines: bytes | str) -> Capabilities:
    octets = (line.encode() if isinstance(line, str) else line for line in lines)
    return Capabilities.from_reply(Reply(250, (b"mail.example.org greets you", *octets)))


FLAGS = {
    "PIPELINING": "pipelining",
    "CHUNKING": "chunking",
    "BINARYMIME": "binarymime",
    "8BITMIME": "eightbitmime",
    "SMTPUTF8": "smtputf8",
    "DSN": "dsn",
    "STARTTLS": "starttls",
    "REQUIRETLS": "requiretls",
    "ENHANCEDSTATUSCODES": "enhanced_status_codes",
    "SIZE": "offers_size",
}


@pytest.mark.parametrize("keyword", FLAGS)
def test_each_flag_follows_its_own_keyword_in_any_case(keyword: str) -> None:
    for line in (keyword, keyword.lower(), keyword.title(), f"{keyword} and more"):
        capabilities = offered(line)
        assert {name: getattr(capabilities, name) for name in FLAGS.values()} == {
            name: name == FLAGS[keyword] for name in FLAGS.values()
        }
        assert keyword in capabilities
        assert keyword.lower() in capabilities


def test_the_greeting_is_no_keyword() -> None:
    capabilities = Capabilities.from_reply(Reply(250, (b"PIPELINING STARTTLS", b"DSN")))
    assert capabilities.greeting_name == "PIPELINING"
    assert set(capabilities.keywords) == {"DSN"}


@pytest.mark.parametrize(
    ("line", "name"),
    [(b"mx.example.org", "mx.example.org"), (b"mx.example.org Hello", "mx.example.org"), (b"", "")],
)
def test_greeting_name(line: bytes, name: str) -> None:
    assert Capabilities.from_reply(Reply(250, (line,))).greeting_name == name


def test_unknown_keywords_are_kept_with_their_parameters_as_given() -> None:
    capabilities = offered("X-Example One two=3", "ETRN")
    assert capabilities.keywords == {"X-EXAMPLE": ("One", "two=3"), "ETRN": ()}
    assert capabilities.get("x-example") == ("One", "two=3")
    assert capabilities.get("etrn") == ()
    assert capabilities.get("absent") is None


def test_nothing_offered() -> None:
    """After HELO, and after an EHLO reply of one line."""
    for capabilities in (Capabilities.none(), offered()):
        assert not capabilities.keywords
        assert capabilities.auth == ()
        assert dict(capabilities.limits) == {}
        assert not any(getattr(capabilities, name) for name in FLAGS.values())
        for name in ("size_limit", "mt_priority", "futurerelease", "deliverby", "rcpt_max", "mail_max"):
            assert getattr(capabilities, name) is None


@pytest.mark.parametrize(
    ("line", "limit"),
    [
        ("SIZE 10240000", 10240000),
        ("SIZE=10240000", 10240000),
        ("size  10240000 ", 10240000),
        ("SIZE", None),
        ("SIZE 0", None),
        ("SIZE x", None),
        ("SIZE -1", None),
        ("SIZE 1_000", None),
        ("SIZE ١٢", None),
        ("SIZE 10 MB", None),
        ("SIZE 10 000 000", None),
        ("SIZE 10MB", None),
        ("SIZE " + "9" * 20, 10**20 - 1),
        ("SIZE " + "9" * 21, None),
        ("SIZE " + "9" * 5000, None),
    ],
)
def test_size(line: str, limit: int | None) -> None:
    """FAULTS 14: a value that makes no sense is no limit, and the keyword is offered all the same."""
    capabilities = offered(line)
    assert capabilities.offers_size
    assert capabilities.size_limit == limit


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (["AUTH PLAIN LOGIN"], ("PLAIN", "LOGIN")),
        (["AUTH=PLAIN LOGIN"], ("PLAIN", "LOGIN")),
        (["AUTH=LOGIN", "AUTH PLAIN login Scram-Sha-256"], ("LOGIN", "PLAIN", "SCRAM-SHA-256")),
        (["auth plain", "auth=plain"], ("PLAIN",)),
        (["AUTH PLAIN PLAIN"], ("PLAIN",)),
        (["AUTH"], ()),
        (["AUTH="], ()),
    ],
)
def test_auth_in_both_spellings(lines: list[str], mechanisms: tuple[str, ...]) -> None:
    """FAULTS 14."""
    capabilities = offered(*lines)
    assert capabilities.auth == mechanisms
    assert "AUTH" in capabilities


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MT-PRIORITY MIXER", "mt_priority", "MIXER"),
        ("MT-PRIORITY", "mt_priority", ""),
        ("FUTURERELEASE 86400 2030-01-01T00:00:00Z", "futurerelease", (86400, "2030-01-01T00:00:00Z")),
        ("FUTURERELEASE 86400", "futurerelease", None),
        ("FUTURERELEASE soon 2030-01-01T00:00:00Z", "futurerelease", None),
        ("DELIVERBY 240", "deliverby", 240),
        ("DELIVERBY", "deliverby", 0),
        ("DELIVERBY x", "deliverby", 0),
        ("LIMITS RCPTMAX=20 MAILMAX=5", "rcpt_max", 20),
        ("limits mailmax=5", "mail_max", 5),
        ("LIMITS RCPTDOMAINMAX=1", "rcpt_domain_max", 1),
        ("LIMITS RCPTMAX=0", "rcpt_max", None),
        ("LIMITS RCPTMAX=5 MAILMAX=9 rcptmax=20", "rcpt_max", 5),
        ("LIMITS RCPTMAX=20 RCPTMAX=5", "rcpt_max", 5),
        ("LIMITS RCPTMAX=20 RCPTMAX=0 RCPTMAX=x", "rcpt_max", 20),
        ("LIMITS MAILMAX=7 MAILMAX=3", "mail_max", 3),
        ("LIMITS RCPTMAX=x", "rcpt_max", None),
        ("LIMITS RCPTMAX", "rcpt_max", None),
        ("LIMITS MAILMAX=5", "rcpt_max", None),
        ("RCPTMAX=20", "rcpt_max", None),
    ],
)
def test_parameters(line: str, name: str, value: object) -> None:
    """FAULTS 14. RFC 6710, RFC 4865, RFC 2852, RFC 9422."""
    assert getattr(offered(line), name) == value


def test_limits_keep_unknown_names() -> None:
    """RFC 9422 3."""
    assert dict(offered("LIMITS RcptMax=20 Other=a=b Bare").limits) == {
        "RCPTMAX": "20",
        "OTHER": "a=b",
        "BARE": "",
    }


@pytest.mark.parametrize(
    "line",
    [
        b"SIZE\x0bSTARTTLS",
        b"SIZE\x0cSTARTTLS",
        b"SIZE\x1cSTARTTLS",
        b"SIZE\x85STARTTLS",
        b"SIZE\rSTARTTLS",
        "SIZE\x85STARTTLS".encode(),
        "SIZE\u2028STARTTLS".encode(),
        "SIZE\u00a0STARTTLS".encode(),
        b"SIZE 1\x0bSTARTTLS",
    ],
)
def test_no_octet_but_the_line_end_makes_a_line(line: bytes) -> None:
    """FAULTS 13: nothing that a text library takes for a line end or a space invents a keyword."""
    assert not offered(line).starttls


@pytest.mark.parametrize("line", [b"", b" ", b"\t", b"=", b"=x", b"\xff", b"\x00", "SMTPUTF８".encode()])
def test_lines_without_a_keyword_are_passed_over(line: bytes) -> None:
    """FAULTS 14."""
    assert set(offered(line, b"DSN").keywords) == {"DSN"}


def test_many_and_repeated_keywords() -> None:
    """FAULTS 14."""
    capabilities = offered(*(f"X-{n}" for n in range(1000)), "DSN", "DSN", "SIZE 5", "size 9")
    assert len(capabilities.keywords) == 1002
    assert capabilities.size_limit == 5


@given(st.lists(st.binary(max_size=60), min_size=1).map(tuple))
def test_any_reply_can_be_read(lines: tuple[bytes, ...]) -> None:
    """FAULTS 14: no property raises, whatever the server says."""
    capabilities = Capabilities.from_reply(Reply(250, lines))
    for name in dir(Capabilities):
        if not name.startswith("_"):
            getattr(capabilities, name)
    assert all(keyword == keyword.upper() and keyword.isprintable() for keyword in capabilities.keywords)


def test_values_cannot_be_changed_and_travel() -> None:
    source = {"DSN": ()}
    capabilities = Capabilities(source, "mx")
    source["SIZE"] = ()
    assert "SIZE" not in capabilities
    with pytest.raises(TypeError):
        capabilities.keywords["SIZE"] = ()  # type: ignore[index]
    with pytest.raises(AttributeError):
        capabilities.greeting_name = ""  # type: ignore[misc]
    for twin in (pickle.loads(pickle.dumps(capabilities)), copy.deepcopy(capabilities)):
        assert twin == capabilities
    assert capabilities != Capabilities.none("mx")


def test_protocol_is_its_text() -> None:
    assert Protocol("lmtp") is Protocol.LMTP
    assert [str(protocol) for protocol in Protocol] == ["smtp", "lmtp"]
