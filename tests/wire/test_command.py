"""The gate: every command line is one line, within its limit, and says what was meant."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import InputError
from pysmtpx.wire import command
from pysmtpx.wire.address import ForwardPath, ReversePath
from pysmtpx.wire.params import DeliverBy, MailFromParams, RcptToParams

CONTROLS = [chr(n) for n in (*range(0x20), *range(0x7F, 0xA0))]


def parse(line: bytes) -> tuple[str, str, list[tuple[str, str | None]]]:
    """What a server makes of MAIL and RCPT: the head, the path and the parameters."""
    assert line.endswith(b"\r\n")
    text = line[:-2].decode()
    assert not any(char in text for char in CONTROLS)
    head, _, rest = text.partition(":")
    path, quoted, position = "", False, 0
    while not (rest[position] == ">" and not quoted):
        step = 2 if quoted and rest[position] == "\\" else 1
        quoted ^= rest[position] == '"'
        path += rest[position : position + step]
        position += step
    words = rest[position + 1 :].split(" ")
    assert words[0] == ""
    pairs = [word.partition("=") for word in words[1:]]
    assert all(keyword for keyword, _, _ in pairs)
    return head, path + ">", [(keyword, value if equals else None) for keyword, equals, value in pairs]


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
moments = st.datetimes(timezones=st.just(UTC))
words = st.from_regex(r"\AX[A-Za-z0-9-]{0,5}\Z")
values = st.from_regex(r"\A[!-<>-~]{1,8}\Z")
extras = st.dictionaries(words, optional(values), max_size=2).filter(
    lambda extra: len({word.upper() for word in extra}) == len(extra)
)
bys = st.builds(DeliverBy, st.integers(1, 999_999_999), st.sampled_from("NR"), st.booleans())
paths = st.sampled_from(["a@x", "ü@bücher.de", '"> SIZE=1 <\\" x"@x', "a@[IPv6:::1]", "o=x@x"])
mail_params = st.fixed_dictionaries(
    {
        "size": optional(st.integers(0, 10**20 - 1)),
        "body": optional(st.sampled_from(["7BIT", "8BITMIME", "BINARYMIME"])),
        "ret": optional(st.sampled_from(["FULL", "HDRS"])),
        "envid": optional(printable),
        "auth": optional(st.sampled_from(["<>", "a@x", '"a b+="@x'])),
        "requiretls": st.booleans(),
        "mt_priority": optional(st.integers(-9, 9)),
        "holduntil": optional(moments),
        "by": optional(bys),
        "extra": extras,
    }
)
rcpt_params = st.fixed_dictionaries(
    {
        "notify": st.sets(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"])),
        "orcpt": optional(st.one_of(printable.map("rfc822;{}".format), st.just("ü x@bücher.de"))),
        "rrvs": optional(moments),
        "extra": extras,
    }
)


@given(paths, mail_params)
def test_mail_parses_back(path: str, fields: dict[str, Any]) -> None:
    """FAULTS 101, 111: exactly the path and the parameters that were given."""
    try:
        params = MailFromParams(**fields, smtputf8=True)
        line = command.mail(ReversePath(path), params)
    except InputError:
        assert len(fields["envid"] or "") > 25
        return
    head, wire, pairs = parse(line)
    assert (head, wire, pairs) == ("MAIL FROM", ReversePath(path).wire, params.items())
    read = dict(pairs)
    assert read.get("SIZE") == (None if fields["size"] is None else str(fields["size"]))
    assert read.get("BODY") == fields["body"]
    envid = re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), read.get("ENVID") or "")
    assert envid == (fields["envid"] or "")
    assert ("REQUIRETLS" in read) is fields["requiretls"]
    if fields["holduntil"] is not None:
        assert datetime.fromisoformat(read["HOLDUNTIL"] or "") == fields["holduntil"].replace(microsecond=0)
    assert {word.upper(): value for word, value in fields["extra"].items()}.items() <= read.items()


@given(paths, rcpt_params)
def test_rcpt_parses_back(path: str, fields: dict[str, Any]) -> None:
    """FAULTS 101, 111."""
    params = RcptToParams(**fields)
    head, wire, pairs = parse(command.rcpt(ForwardPath(path), params, smtputf8=True))
    assert (head, wire, pairs) == ("RCPT TO", ForwardPath(path).wire, params.items())
    assert set(filter(None, (dict(pairs).get("NOTIFY") or "").split(","))) == fields["notify"]


@pytest.mark.parametrize(
    "build",
    [
        lambda text: command.line(f"NO{text}OP"),
        lambda text: command.line(f"NOOP{text}"),
        lambda text: command.line("VRFY", text),
        lambda text: command.line("VRFY", f"a{text}", smtputf8=True),
        lambda text: command.line("VRFY", f"ü{text}b", smtputf8=True),
        lambda text: command.hello("EHLO", f"x{text}"),
        lambda text: command.hello("HELO", f"{text}x"),
        lambda text: command.hello("LHLO", f"[127.0.0.1{text}]"),
        lambda text: command.hello("EHLO", f"bü{text}.de"),
        lambda text: command.hello(f"EHLO{text}", "x"),  # type: ignore[arg-type]
        lambda text: command.auth(f"PLAIN{text}"),
        lambda text: command.auth(f"PLAIN{text}", b"x"),
        lambda text: command.mail(f"a{text}@x"),  # type: ignore[arg-type]
        lambda text: command.mail(f"a@x{text}"),  # type: ignore[arg-type]
        lambda text: command.rcpt(f"a@x{text}", smtputf8=True),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("control", [*CONTROLS, "\r\nDATA", "\r\nRCPT TO:<evil@x>"])
def test_no_argument_becomes_a_command(build: Callable[[str], bytes], control: str) -> None:
    """FAULTS 100."""
    with pytest.raises(InputError):
        build(control)


@given(st.text(), st.booleans())
def test_whatever_passes_is_one_line(argument: str, smtputf8: bool) -> None:
    """FAULTS 100."""
    try:
        line = command.line("VRFY", argument, smtputf8=smtputf8)
    except InputError:
        return
    body = line.removesuffix(b"\r\n")
    assert body != line
    assert body.decode() == (f"VRFY {argument}" if argument else "VRFY")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", body.decode())
    assert smtputf8 or body.isascii()


def test_text_that_is_not_ascii_needs_smtputf8() -> None:
    """FAULTS 107: refused, never encoded some other way."""
    assert command.line("VRFY", "ü", smtputf8=True) == b"VRFY \xc3\xbc\r\n"
    assert command.rcpt(ForwardPath("ü@x"), smtputf8=True) == b"RCPT TO:<\xc3\xbc@x>\r\n"
    assert command.mail(ReversePath("ü@x"), MailFromParams(smtputf8=True)).endswith(b"> SMTPUTF8\r\n")
    refused: list[Callable[[], bytes]] = [
        lambda: command.line("VRFY", "ü"),
        lambda: command.line("VRFY", "\ud800", smtputf8=True),
        lambda: command.rcpt(ForwardPath("ü@x")),
        lambda: command.rcpt(ForwardPath("ü@x"), RcptToParams(notify="NEVER")),
        lambda: command.mail(ReversePath("ü@x")),
        lambda: command.mail(ReversePath("ü@x"), MailFromParams(size=1)),
    ]
    for build in refused:
        with pytest.raises(InputError):
            build()


@pytest.mark.parametrize("verb", ["", " ", "NO OP", "-X", "ÜB", "MAIL FROM:<a@x>"])
def test_a_verb_is_one_word(verb: str) -> None:
    with pytest.raises(InputError):
        command.line(verb)


def test_a_line_ends_at_its_limit() -> None:
    """FAULTS 105 (RFC 5321 4.5.3.1.4): octets, CRLF included."""
    assert len(command.line("VRFY", "a" * 505)) == 512
    assert len(command.line("VRFY", "ü" * 252, smtputf8=True)) == 511
    assert len(command.line("VRFY", "a" * 93, limit=100)) == 100
    for argument, limit in (("a" * 506, 512), ("ü" * 253, 512), ("a" * 94, 100)):
        with pytest.raises(InputError):
            command.line("VRFY", argument, limit=limit, smtputf8=True)


LONG_PATH = "a" * 64 + "@" + ".".join(["b" * 62] * 3)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, 512),
        ({"size": 1}, 512 + 26),
        ({"body": "8BITMIME"}, 512 + 17),
        ({"smtputf8": True}, 512 + 10),
        ({"auth": "<>"}, 512 + 500),
        ({"requiretls": True}, 512 + 11),
        ({"mt_priority": 1}, 512 + 15),
        ({"by": DeliverBy(1)}, 512 + 17),
        ({"ret": "FULL"}, 512 + 9),
        ({"size": 1, "body": "8BITMIME", "auth": "<>"}, 512 + 26 + 17 + 500),
    ],
)
def test_mail_grows_by_what_each_extension_grants(fields: dict[str, Any], limit: int) -> None:
    """FAULTS 105: an unknown keyword grants nothing."""

    def mail(padding: int) -> bytes:
        return command.mail(ReversePath("a@x"), MailFromParams(**fields, extra={"X": "y" * padding}))

    room = limit - len(mail(1)) + 1
    assert len(mail(room)) == limit
    with pytest.raises(InputError, match=str(limit)):
        mail(room + 1)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, 512),
        ({"notify": "NEVER"}, 1012),
        ({"orcpt": "a@x"}, 1012),
        ({"notify": "NEVER", "orcpt": "a@x"}, 1012),
        ({"rrvs": "2020-01-01T00:00:00Z"}, 512 + 28),
    ],
)
def test_rcpt_grows_by_what_each_extension_grants(fields: dict[str, Any], limit: int) -> None:
    """FAULTS 105: RCPT with DSN has 1,012 octets."""

    def rcpt(padding: int) -> bytes:
        return command.rcpt(ForwardPath("a@x"), RcptToParams(**fields, extra={"X": "y" * padding}))

    room = limit - len(rcpt(1)) + 1
    assert len(rcpt(room)) == limit
    with pytest.raises(InputError, match=str(limit)):
        rcpt(room + 1)


def test_all_parameters_at_their_longest_fit() -> None:
    mail = MailFromParams(
        size=10**20 - 1,
        body="BINARYMIME",
        smtputf8=True,
        ret="FULL",
        envid="e" * 100,
        auth=LONG_PATH,
        requiretls=True,
        mt_priority=-9,
        holduntil="2030-01-01T00:00:00Z",
        by=DeliverBy(-999_999_999, "N", trace=True),
    )
    rcpt = RcptToParams(notify="SUCCESS,FAILURE,DELAY", orcpt="a" * 493, rrvs="2030-01-01T00:00:00Z;C")
    assert parse(command.mail(ReversePath(LONG_PATH), mail))[2] == mail.items()
    assert parse(command.rcpt(ForwardPath(LONG_PATH), rcpt))[2] == rcpt.items()


def test_plain_commands() -> None:
    assert command.mail(ReversePath("")) == b"MAIL FROM:<>\r\n"
    assert command.mail(ReversePath("a@x"), MailFromParams()) == b"MAIL FROM:<a@x>\r\n"
    assert command.rcpt(ForwardPath("postmaster"), RcptToParams()) == b"RCPT TO:<postmaster>\r\n"
    assert command.hello("EHLO", "bücher.de") == b"EHLO xn--bcher-kva.de\r\n"
    assert command.hello("LHLO", "[IPv6:::1]") == b"LHLO [IPv6:::1]\r\n"
    assert (command.DATA, command.RSET) == (b"DATA\r\n", b"RSET\r\n")
    assert (command.NOOP, command.QUIT) == (b"NOOP\r\n", b"QUIT\r\n")
    assert command.STARTTLS == b"STARTTLS\r\n"
    assert command.END_OF_DATA == b".\r\n"


@pytest.mark.parametrize("name", ["", "a b", "127.0.0.1]", "[1.2.3]", "x SIZE=1", "x>"])
def test_hello_takes_a_domain_or_a_literal(name: str) -> None:
    with pytest.raises(InputError):
        command.hello("EHLO", name)


def test_bdat() -> None:
    assert command.bdat(0, True) == b"BDAT 0 LAST\r\n"
    assert command.bdat(10**12, False) == b"BDAT 1000000000000\r\n"
    with pytest.raises(InputError):
        command.bdat(-1, True)


def test_auth() -> None:
    assert command.auth("SCRAM-SHA-256-PLUS") == b"AUTH SCRAM-SHA-256-PLUS\r\n"
    assert command.auth("PLAIN", b"\0u\0p") == b"AUTH PLAIN AHUAcA==\r\n"
    assert command.auth("EXTERNAL", b"") == b"AUTH EXTERNAL =\r\n"
    for wrong in ("", "plain", "A B", "X" * 21, "PLAIN ="):
        with pytest.raises(InputError):
            command.auth(wrong, b"x")


@pytest.mark.parametrize("size", range(366, 384))
def test_an_initial_response_goes_along_where_it_fits(size: int) -> None:
    """FAULTS 81: else the mechanism takes two steps."""
    line = command.auth("PLAIN", b"x" * size)
    whole = len("AUTH PLAIN \r\n") + 4 * -(-size // 3)
    if whole > 512:
        assert line is None
    else:
        assert line is not None
        assert len(line) == whole


@given(st.binary(max_size=600))
def test_auth_response_is_base64_on_one_line(data: bytes) -> None:
    line = command.auth_response(data)
    assert b64decode(line.removesuffix(b"\r\n"), validate=True) == data
    assert line.count(b"\n") == 1


def test_auth_response_has_a_limit() -> None:
    """FAULTS 81: 12,288 octets, and no secret in the error."""
    assert len(command.auth_response(b"s" * 9213)) <= 12_288
    with pytest.raises(InputError) as caught:
        command.auth_response(b"s" * 9216)
    assert len(str(caught.value)) < 100


def test_errors_never_show_the_argument() -> None:
    """FAULTS 85: a command line may hold a secret."""
    for argument in ("hunter2\r\n", "hunter2ü", "hunter2" * 100, "hunter2\ud800"):
        with pytest.raises(InputError) as caught:
            command.line("AUTH", argument)
        assert "hunter2" not in str(caught.value)


def test_a_line_that_is_remembered_is_told_from_every_other() -> None:
    """Lines are kept by path alone where nothing else is in them; parameters never stay behind."""
    sender, rcpt = ReversePath("a@x.example"), ForwardPath("a@x.example")
    plain, plain_rcpt = command.mail(sender, size=1), command.rcpt(rcpt)
    assert (plain, plain_rcpt) == (b"MAIL FROM:<a@x.example> SIZE=1\r\n", b"RCPT TO:<a@x.example>\r\n")
    secret = MailFromParams(envid="secret", ret="HDRS")
    assert b"secret" in command.mail(sender, secret, size=1)
    assert b"NOTIFY" in command.rcpt(rcpt, RcptToParams(notify=("NEVER",)))
    assert (command.mail(sender, size=1), command.rcpt(rcpt)) == (plain, plain_rcpt)
    assert command.mail(sender, size=2) == b"MAIL FROM:<a@x.example> SIZE=2\r\n"
    assert command.mail(sender) == b"MAIL FROM:<a@x.example>\r\n"

    foreign = ForwardPath("é@x.example")
    assert command.rcpt(foreign, smtputf8=True) == "RCPT TO:<é@x.example>\r\n".encode()
    with pytest.raises(InputError, match="SMTPUTF8"):
        command.rcpt(foreign)


def test_a_path_that_answers_for_another_is_not_remembered_in_its_place() -> None:
    class Liar(str):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("a@x.example")

    command._plain_rcpt.cache_clear()
    assert command.rcpt(ForwardPath(Liar("b@x.example"))) == b"RCPT TO:<b@x.example>\r\n"
    assert command.rcpt(Liar("c@x.example")) == b"RCPT TO:<c@x.example>\r\n"  # type: ignore[arg-type]
    assert command.mail(Liar("d@x.example")) == b"MAIL FROM:<d@x.example>\r\n"  # type: ignore[arg-type]
    assert command.rcpt(ForwardPath("a@x.example")) == b"RCPT TO:<a@x.example>\r\n"


@pytest.mark.parametrize("params", [None, [None, RcptToParams(notify="NEVER")]])
def test_the_lines_of_several_recipients_are_those_of_each(params: Any) -> None:
    paths = [ForwardPath("a@x.example"), ForwardPath("b@x.example")]
    each = zip(paths, params or [None, None], strict=True)
    assert list(command.rcpts(paths, params, smtputf8=False)) == [command.rcpt(*one) for one in each]
