"""Address lists (RFC 5322 3.4): read right, or refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import InputError
from pysmtpx.mime.addresses import Group, Mailbox, flatten, parse


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", []),
        (" , ,", []),
        ("a@x.org", ["a@x.org"]),
        ("a@x.org,b@y.org", ["a@x.org", "b@y.org"]),
        ("Ann <a@x.org>, \t<b@y.org>", ["a@x.org", "b@y.org"]),
        ('"Ann, B. <c@d>" <a@x.org>', ["a@x.org"]),
        (r'"a \" , b" <a@x.org>, b@y.org', ["a@x.org", "b@y.org"]),
        ("J. R. Doe <a@x.org>", ["a@x.org"]),
        ('"john doe"@x.org', ['"john doe"@x.org']),
        (r'"a\"b,c@d"@x.org', [r'"a\"b,c@d"@x.org']),
        ("a@[192.0.2.1], b@[IPv6:::1]", ["a@[192.0.2.1]", "b@[IPv6:::1]"]),
        ("a@x.org (Ann, or (so)), b@y.org", ["a@x.org", "b@y.org"]),
        ("a (b) @ (c) x . (d) org", ["a@x.org"]),
        ("Team: a@x.org, Bob <b@y.org>;, c@z.org", ["a@x.org", "b@y.org", "c@z.org"]),
        ("undisclosed-recipients:;", []),
        ("jörg@müller.de, Ünal <ü@x.org>", ["jörg@müller.de", "ü@x.org"]),
        ("=?utf-8?q?a=2C_b=40evil?= <a@x.org>", ["a@x.org"]),
        ("a..b@x.org, <.a@x.org>, user.@docomo.ne.jp", ["a..b@x.org", ".a@x.org", "user.@docomo.ne.jp"]),
        ("A@x.org <a@x.org>", ["a@x.org"]),
    ],
)
def test_read(text, addresses):
    assert [mailbox.address for mailbox in flatten(parse(text))] == addresses


def test_names_are_kept_as_they_stand():
    assert parse('Ann  B <a@x.org>, "C, D" <c@x.org>, e@x.org (Eve), T: f@x.org;') == [
        Mailbox("a@x.org", "Ann  B"),
        Mailbox("c@x.org", '"C, D"'),
        Mailbox("e@x.org", '"Eve"'),
        Group("T", (Mailbox("f@x.org"),)),
    ]


def test_a_labels():
    assert Mailbox("ann@faß.de", "Ann").with_a_labels() == Mailbox("ann@xn--fa-hia.de", "Ann")
    assert Mailbox("ann@[192.0.2.1]").with_a_labels() == Mailbox("ann@[192.0.2.1]")


@pytest.mark.parametrize(
    "text",
    [
        "ann",
        "@x.org",
        "a@",
        "a b@x.org",
        "a@x.org b@y.org",
        "a@x.org; b@y.org",
        "a@b@x.org",
        "a@x..org",
        "<>",
        "<a@x.org",
        "a@x.org>",
        "<a@x.org> <b@y.org>",
        "<a@x.org> b",
        "<<a@x.org>>",
        "<@relay.org,@b.org:a@x.org>",
        "@relay.org:a@x.org",
        "a@evil.org <a@x.org>",
        '"a <a@x.org>',
        "a@[192.0.2.1",
        "(a@x.org",
        "a@x.org)",
        "T: a@x.org",
        "T: U: a@x.org;;",
        ": a@x.org;",
        "a\\b@x.org",
        "=?utf-8?q?victim=40x.org=3E?=@evil.org",
        "Dr. ann@x.org",
        "a . b@x.org",
        "a.(b)c@x.org",
        "..@x.org",
    ],
)
def test_refused_rather_than_guessed(text):
    """FAULTS 103, 105."""
    with pytest.raises(InputError):
        list(flatten(parse(text)))


@pytest.mark.parametrize(
    "text", ["root", "root, ann", "<root>, Ann <a@x.org>", "root (Cron), T: ann;, <b@x.org>", '"a b"']
)
def test_words_without_a_domain(text):
    with pytest.raises(InputError):
        parse(text)
    assert "root" in parse(text, bare=True)[0].address or text == '"a b"'


@pytest.mark.parametrize(
    "text",
    [
        "Doe, John <john@x.org>",
        "a@x.org, Doe, , John D. <john@x.org>",
        "T: Doe, John <j@x.org>;",
        "Doe, J <root>",
    ],
)
def test_a_part_of_a_display_name_is_nobody(text):
    with pytest.raises(InputError, match="quote a display name"):
        parse(text, bare=True)


@pytest.mark.parametrize("text", ["x" * 10_000 + "\n@", "a\x1b[2Jb c@x.org", "(\u202eoops", "; \r\n.\r\n"])
def test_an_error_shows_the_text_in_short_and_without_controls(text):
    with pytest.raises(InputError) as caught:
        parse(text)
    told = str(caught.value)
    assert len(told) < 250
    assert told.isprintable()
    assert text[:1] in told or "u202e" in told


@pytest.mark.parametrize(
    "text",
    [
        "(" * 200_000 + ")" * 200_000 + "a@x.org",
        "a@x.org," * 50_000,
        "a@x.org" + " " * 400_000,
        *(piece * 100_001 for piece in ("(", '"', "<", "a.", "\\", "[", "T:", "a ", ", ")),
    ],
)
def test_linear_and_without_recursion(text):
    """FAULTS 111."""
    with suppress(InputError):
        assert len(list(flatten(parse(text)))) in (0, 1, 50_000)


_ATOM = st.text("abz09!#$%&'*+/=^_`{|}~-", min_size=1, max_size=8)
_LOCAL = st.lists(_ATOM, min_size=1, max_size=3).map(".".join) | st.text(' abc<>@,;:.()"\\', max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
_ADDRESS = st.tuples(_LOCAL, st.sampled_from(["x.org", "b.example", "[192.0.2.1]"])).map("@".join)
_SPACE = st.sampled_from(["", " ", "\t ", " (a, <b@c> (d)) "])
_NAME = st.sampled_from(["", "Ann", '"Ann, <b@c>"', "A. B", "=?utf-8?q?=2C?="])


@given(st.lists(st.tuples(_NAME, _ADDRESS, _SPACE, st.booleans()), max_size=8))
def test_whatever_was_written_by_the_rules_is_read_back(entries):
    written = [
        f"{space}{name} <{space}{address}{space}>" if name or angle else f"{space}{address}{space}"
        for name, address, space, angle in entries
    ]
    assert [mailbox.address for mailbox in flatten(parse(",".join(written)))] == [a for _, a, _, _ in entries]


@given(st.text('ab.@<>,:;()"\\[] =?é\x00', max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        boxes = list(flatten(parse(text)))
    except InputError:
        return
    assert all(box.local_part and box.domain for box in boxes)
