"""Address lists of header fields (RFC 5322 3.4), read in one pass.

Strict where leniency delivers mail to somebody else: what is not an address
list is refused, never guessed at. Encoded words (RFC 2047) stay as they are;
in an addr-spec they are forbidden, and decoding one there could make another
address of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from ..errors import InputError
from ..shortening import shown
from ..wire.address import domain_to_ascii


class Mailbox(NamedTuple):
    """One mailbox of an address list."""

    address: str
    """``local-part@domain``, quotes kept, comments and white space gone."""
    phrase: str = ""
    """The display name as it stands: quoted strings and encoded words untouched."""
    comments: tuple[str, ...] = ()
    """With their parentheses; without one that serves as display name."""

    @property
    def local_part(self) -> str:
        """Before the last at sign; all of it where there is none."""
        return self.address[: -len(self.domain) - 1] if self.domain else self.address

    @property
    def domain(self) -> str:
        """After the last at sign; empty where there is none."""
        # One in quotes is a part of the local part.
        before, _, after = self.address.rpartition("@")
        return "" if not before or after.endswith('"') else after

    def with_a_labels(self) -> Mailbox:
        """The same mailbox with an ASCII domain (RFC 5891)."""
        if self.domain.isascii():
            return self
        return self._replace(address=f"{self.local_part}@{domain_to_ascii(self.domain)}")

    def __str__(self) -> str:
        """As in a list, without its comments."""
        return f"{self.phrase} <{self.address}>" if self.phrase else self.address


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
_UNSEPARATED: Final = re.compile(
    r"""(?: [^()\[\]\\",:;]+ | "(?:[^"\\]|\\.)*" | \[(?:[^\[\]\\]|\\.)*\] ){0,1000}""",
    re.VERBOSE | re.DOTALL,
)
"""Tokens up to a separator of the list, a comment, or what is no token; not all at once, to save memory."""
_WORD: Final = r'[^ \t()<>@,;:\\".\[\]]'
_SPEC: Final = rf"{_WORD}++(?:\.{_WORD}++)*@{_WORD}++(?:\.{_WORD}++)*"
_PLAIN: Final = re.compile(
    rf"""\ *+(?:(?P<phrase> {_WORD}[^\t()<>@,;:\\"\[\]]*+ | "[^"\\]*+"\ *+ )?(?P<open><))?
    (?!=\?)(?P<address>{_SPEC})(?(open)>)\ *+(?P<end>,|\Z)""",
    re.VERBOSE,
)
"""A mailbox as nearly all are, ``local-part@domain`` or ``name <local-part@domain>``, up to the comma."""
_IN_COMMENT: Final = re.compile(r"[()]|\\.?", re.DOTALL)
_LOCAL_PART: Final = re.compile(r"[aq](?:\.[aq])*|\.*+a(?:\.++a)*\.*")
"""Also with dots at an end, or several in a row: no grammar has them, and such mailboxes exist."""
_ADDR_SPEC: Final = re.compile(rf"(?:{_LOCAL_PART.pattern})@(?:a(?:\.a)*|l)")
_PHRASE: Final = re.compile(r"(?:[aq][aq.]*)?")


def parse(text: str, *, bare: bool = False) -> list[Address]:
    """The mailboxes and groups of an unfolded field value; with ``bare`` also local parts without a domain.

    Besides the address lists of RFC 5322 3.4 it takes local parts with dots in
    the wrong places (``j..k@example.org``), and a mailbox with itself for an
    unquoted display name. Raises ``InputError`` for anything else, for a source
    route (RFC 5321 C), and for a word without a domain before a display name: it
    may be a part of that, with a comma in it.
    """
    if (plain := _plain(text)) is not None:
        return plain
    entries: list[Address] = []
    run: list[_Token] = []
    group: tuple[str, list[Mailbox]] | None = None
    reader = _Reader(text, bare)
    for token in _tokens(text):
        if token.kind not in ",:;":
            run.append(token)
            continue
        if token.kind == ":":
            if group is not None:
                raise _refused(
                    "a group within a group, or a source route", text[run[0].start :] if run else text
                )
            group = (_group_name(run, text), [])
        else:
            (entries if group is None else group[1]).extend(reader.mailbox(run))
        if token.kind == ";":
            if group is None:
                raise _refused("a semicolon that ends no group (separate by commas)", text)
            entries.append(Group(group[0], tuple(group[1])))
            group = None
        run = []
    if group is not None:
        raise _refused("a group without its semicolon", text)
    entries.extend(reader.mailbox(run))
    return entries


def of_field(name: str, text: str, *, bare: bool = False) -> list[Address]:
    """As ``parse``, with the field's name and the beginning of its text in the error."""
    try:
        return parse(text, bare=bare)
    except InputError as error:
        whole = shown(text)
        raise InputError(f"{name}: {error.text}" + ("" if whole in error.text else f" of {whole}")) from None


def flatten(entries: Iterable[Address]) -> Iterator[Mailbox]:
    """The mailboxes, those of groups included, in order."""
    for entry in entries:
        if isinstance(entry, Group):
            yield from entry.mailboxes
        else:
            yield entry


def items(text: str) -> list[str]:
    """The text in pieces, each but the last ending with a separator of the list; whole where it is none."""
    try:
        ends = _separator_ends(text.rstrip(" \t"))
    except InputError:
        return [text]
    return [piece for start, end in pairwise([0, *ends, len(text)]) if (piece := text[start:end])]


def _separator_ends(text: str) -> list[int]:
    ends: list[int] = []
    position = 0
    while (match := _UNSEPARATED.match(text, position)) and match.end() < len(text):
        start, position = position, match.end()
        if text[position] == "(":
            position = _end_of_comment(text, position + 1)
        elif text[position] in ",:;":
            position += 1
            ends.append(position)
        elif position == start:
            raise _refused("an unclosed quote, bracket or comment", text[position:])
    return ends


def _plain(text: str) -> list[Address] | None:
    """The mailboxes of a list that holds none but plain ones; None where it takes more to read it."""
    found: list[Address] = []
    position = 0
    while match := _PLAIN.match(text, position):
        phrase, _, address, end = match.groups("")
        found.append(Mailbox(address, phrase.rstrip(" ")))
        if not end:
            return found
        position = match.end()
    return None


def _refused(why: str, text: str, place: int = 0) -> InputError:
    where = f" (address {place})" if place else ""
    return InputError(f"{why} in an address list: {shown(text.strip())}{where}")


def _tokens(text: str) -> Iterator[_Token]:
    text = text.rstrip(" \t")
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _refused("an unclosed quote, bracket or comment", text[position:])
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
    raise _refused("an unclosed comment", text[position - 1 :])


def _kinds(tokens: Iterable[_Token]) -> str:
    return "".join(token.kind for token in tokens)


class _Reader:
    """Reads what stands between two commas, one after the other."""

    def __init__(self, text: str, bare: bool) -> None:
        self._text = text
        self._is_bare_allowed = bare
        self._word = ""
        """The entry before, where it is a word without a domain."""
        self._place = 0
        """How many entries there were by now."""

    def mailbox(self, run: list[_Token]) -> list[Mailbox]:
        """The mailbox of a run of tokens; none where it holds none (RFC 5322 4.4)."""
        tokens = [token for token in run if token.kind != "c"]
        if not tokens:
            return []
        self._place += 1
        kinds = _kinds(tokens)
        if "<" not in kinds:
            return [self._without_angles(tokens, run)]
        word, self._word = self._word, ""
        start = kinds.index("<")
        if not kinds.endswith(">"):
            raise self._refused("a mailbox that is not 'display name <local-part@domain>'", run)
        address = self._addr_spec(tokens[start + 1 : -1], run)
        name = tokens[:start]
        if _PHRASE.fullmatch(_kinds(name)):
            if word and name:
                # Of "Doe, John <john@example.org>" John is meant, and nobody of the name of Doe.
                raise _refused(
                    f"a word without a domain ({shown(word)}; quote a display name with a comma,"
                    " put a mailbox without a domain in angle brackets)",
                    self._text,
                    self._place - 1,
                )
            comments = tuple(token.text for token in run if token.kind == "c")
            return [Mailbox(address, _slice(name, self._text), comments)]
        if "".join(token.text for token in name).lower() == address.lower():
            return [Mailbox(address, _quoted(address))]
        raise self._refused("a mailbox that is not 'display name <local-part@domain>'", run)

    def _without_angles(self, tokens: list[_Token], run: list[_Token]) -> Mailbox:
        address = self._addr_spec(tokens, run)
        comments = [token.text for token in run if token.kind == "c"]
        self._word = "" if "@" in _kinds(tokens) or comments else address
        name = _quoted(comments.pop()[1:-1].strip()) if comments else ""
        return Mailbox(address, name, tuple(comments))

    def _addr_spec(self, tokens: list[_Token], run: list[_Token]) -> str:
        kinds = _kinds(tokens)
        form = _ADDR_SPEC if "@" in kinds or not self._is_bare_allowed else _LOCAL_PART
        if not form.fullmatch(kinds):
            raise self._refused("a mailbox that is not 'local-part@domain' (RFC 5322 3.4.1)", run)
        address = "".join(token.text for token in tokens)
        if "@" not in kinds and not address.isascii():
            raise self._refused("a word without an address", run)
        local_part = tokens[: len(kinds.partition("@")[0])]
        if _slice(local_part, self._text) != "".join(token.text for token in local_part):
            # RFC 5322 4.4 has it, and "Dr. ann@example.org" would be "Dr.ann".
            raise self._refused("white space or a comment within a local part", run)
        if address.startswith("=?"):
            raise self._refused("an encoded word in place of an address (RFC 2047 5)", run)
        return address

    def _refused(self, why: str, run: list[_Token]) -> InputError:
        return _refused(why, _slice(run, self._text), self._place)


def _group_name(run: list[_Token], text: str) -> str:
    tokens = [token for token in run if token.kind != "c"]
    if not tokens or not _PHRASE.fullmatch(_kinds(tokens)):
        raise _refused("a colon that begins no group", text[run[0].start :] if run else text)
    return _slice(tokens, text)


def _slice(tokens: list[_Token], text: str) -> str:
    return text[tokens[0].start : tokens[-1].start + len(tokens[-1].text)] if tokens else ""


def _quoted(name: str) -> str:
    """A display name in quotes: a comment's (``a@example.org (Ann)``, the old way), or an address."""
    words = name.replace("\\", "").replace('"', "").replace("(", "").replace(")", "")
    return f'"{words}"' if words else ""
