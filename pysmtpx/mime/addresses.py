"""Address lists of header fields (RFC 5322 3.4), read in one pass.

Strict where leniency delivers mail to somebody else: what is not an address
list is refused, never guessed at. Encoded words (RFC 2047) stay as they are;
in an addr-spec they are forbidden, and decoding one there could make another
address of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from ..errors import InputError
from ..wire.address import domain_to_ascii


class Mailbox(NamedTuple):
    """One mailbox of an address list."""

    address: str
    """``local-part@domain``, quotes kept, comments and white space gone."""
    phrase: str = ""
    """The display name as it stands: quoted strings and encoded words untouched."""

    @property
    def local_part(self) -> str:
        """Before the last at sign."""
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """After the last at sign."""
        return self.address.rpartition("@")[2]

    def with_a_labels(self) -> Mailbox:
        """The same mailbox with an ASCII domain (RFC 5891)."""
        if self.domain.isascii():
            return self
        return self._replace(address=f"{self.local_part}@{domain_to_ascii(self.domain)}")


class Group(NamedTuple):
    """A named group of mailboxes, perhaps empty (RFC 5322 3.4)."""

    phrase: str
    mailboxes: tuple[Mailbox, ...]


Address: TypeAlias = Mailbox | Group


class _Token(NamedTuple):
    kind: str
    """``a`` atom, ``q`` quoted string, ``l`` domain literal, ``c`` comment, or the special itself."""
    text: str
    start: int


# No alternative can begin where another does, so no text makes this run slower than linear.
_TOKEN: Final = re.compile(
    r"""[ \t]*(?:
        (?P<q> "(?:[^"\\]|\\.)*" )
      | (?P<l> \[(?:[^\[\]\\]|\\.)*\] )
      | (?P<s> [<>@,:;.] )
      | (?P<a> [^ \t()<>@,:;\\".\[\]]+ )
      | (?P<c> \( )
    )""",
    re.VERBOSE | re.DOTALL,
)
_IN_COMMENT: Final = re.compile(r"[()]|\\.?", re.DOTALL)
_ADDR_SPEC: Final = re.compile(r"[aq](?:\.[aq])*@(?:a(?:\.a)*|l)")
_LOCAL_PART: Final = re.compile(r"[aq](?:\.[aq])*")
_PHRASE: Final = re.compile(r"(?:[aq][aq.]*)?")


def parse(text: str, *, bare: bool = False) -> list[Address]:
    """The mailboxes and groups of an unfolded field value; with ``bare`` also local parts without a domain.

    Raises ``InputError`` where the text is no address list of RFC 5322 3.4, and
    for a source route (RFC 5321 C).
    """
    entries: list[Address] = []
    run: list[_Token] = []
    group: tuple[str, list[Mailbox]] | None = None
    for token in _tokens(text):
        if token.kind not in ",:;":
            run.append(token)
            continue
        if token.kind == ":":
            if group is not None:
                raise InputError("a group within a group, or a source route, in an address list")
            group = (_group_name(run, text), [])
        else:
            (entries if group is None else group[1]).extend(_mailbox(run, text, bare))
        if token.kind == ";":
            if group is None:
                raise InputError("a semicolon that ends no group in an address list (separate by commas)")
            entries.append(Group(group[0], tuple(group[1])))
            group = None
        run = []
    if group is not None:
        raise InputError("a group without its semicolon in an address list")
    entries.extend(_mailbox(run, text, bare))
    return entries


def of_field(name: str, text: str, *, bare: bool = False) -> list[Address]:
    """As ``parse``, with the field's name in the error."""
    try:
        return parse(text, bare=bare)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def flatten(entries: Iterable[Address]) -> Iterator[Mailbox]:
    """The mailboxes, those of groups included, in order."""
    for entry in entries:
        if isinstance(entry, Group):
            yield from entry.mailboxes
        else:
            yield entry


def _tokens(text: str) -> Iterator[_Token]:
    text = text.rstrip(" \t")
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InputError("an unclosed quote, bracket or comment in an address list")
        kind = match.lastgroup or ""
        start, position = match.span(kind)
        if kind == "c":
            position = _end_of_comment(text, position)
        piece = text[start:position]
        yield _Token(piece if kind == "s" else kind, piece, start)


def _end_of_comment(text: str, position: int) -> int:
    # Comments nest (RFC 5322 3.2.2). Counted, not recursed: depth is the sender's choice.
    depth = 1
    for match in _IN_COMMENT.finditer(text, position):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    raise InputError("an unclosed comment in an address list")


def _kinds(tokens: Iterable[_Token]) -> str:
    return "".join(token.kind for token in tokens)


def _mailbox(run: list[_Token], text: str, bare: bool) -> list[Mailbox]:
    """The mailbox between two commas; none between two commas alone (RFC 5322 4.4)."""
    tokens = [token for token in run if token.kind != "c"]
    kinds = _kinds(tokens)
    if not tokens:
        return []
    if "<" not in kinds:
        comments = [token.text[1:-1].strip() for token in run if token.kind == "c"]
        return [Mailbox(_addr_spec(tokens, bare), _quoted(comments[-1]) if comments else "")]
    start = kinds.index("<")
    if not kinds.endswith(">") or not _PHRASE.fullmatch(kinds, 0, start):
        raise InputError("a mailbox that is not 'display name <local-part@domain>' in an address list")
    return [Mailbox(_addr_spec(tokens[start + 1 : -1], bare), _slice(tokens[:start], text))]


def _addr_spec(tokens: list[_Token], bare: bool) -> str:
    kinds = _kinds(tokens)
    if not (_ADDR_SPEC.fullmatch(kinds) or (bare and _LOCAL_PART.fullmatch(kinds))):
        raise InputError("a mailbox that is not 'local-part@domain' in an address list (RFC 5322 3.4.1)")
    address = "".join(token.text for token in tokens)
    if address.startswith("=?"):
        raise InputError("an encoded word in place of an address (RFC 2047 5)")
    return address


def _group_name(run: list[_Token], text: str) -> str:
    tokens = [token for token in run if token.kind != "c"]
    if not tokens or not _PHRASE.fullmatch(_kinds(tokens)):
        raise InputError("a colon that begins no group in an address list")
    return _slice(tokens, text)


def _slice(tokens: list[_Token], text: str) -> str:
    return text[tokens[0].start : tokens[-1].start + len(tokens[-1].text)] if tokens else ""


def _quoted(comment: str) -> str:
    """The old way to give a name, ``a@example.org (Ann)``, as a display name."""
    words = comment.replace("\\", "").replace('"', "").replace("(", "").replace(")", "")
    return f'"{words}"' if words else ""
