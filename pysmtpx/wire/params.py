"""ESMTP parameters of MAIL and RCPT (RFC 5321 4.1.1.11 and the extensions' own)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeGuard, get_args

from ..errors import InputError, NotSupportedError
from .address import ReversePath
from .capabilities import Capabilities

Body: TypeAlias = Literal["7BIT", "8BITMIME", "BINARYMIME"]
Ret: TypeAlias = Literal["FULL", "HDRS"]
Notify: TypeAlias = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]
Pair: TypeAlias = tuple[str, str | None]
"""A keyword and its value as they stand on the wire."""

_MAX_ENVID: Final = 100
"""Characters, encoded (RFC 3461 4.4)."""
_MAX_ORCPT: Final = 500
"""Characters, type and encoding included (RFC 3461 4.2)."""
_MAX_SECONDS: Final = 999_999_999
"""1*9DIGIT (RFC 2852 4, RFC 4865 3)."""

_KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_VALUE: Final = re.compile(r"[!-<>-~]+")
_NOT_XCHAR: Final = re.compile(r"[^!-*,-<>-~]")
_NOT_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")
_TYPED_ADDRESS: Final = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+);(.*)", re.DOTALL)
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def xtext(text: str) -> str:
    """Encode as xtext: ``+``, ``=`` and space become ``+`` and two hexadecimal digits (RFC 3461 4).

    Raises ``InputError`` for anything but printable ASCII: a control character
    that travels encoded would come out whole in the server's log or report.
    """
    if not (isinstance(text, str) and text.isascii() and text.isprintable()):
        raise InputError("xtext is printable ASCII before it is encoded (RFC 3461 4)")
    return _NOT_XCHAR.sub(lambda match: f"+{ord(match[0]):02X}", text)


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY: deliver within ``seconds``, which may be negative where ``mode`` is ``"N"`` (RFC 2852 4).

    ``"R"`` returns mail that is late, ``"N"`` only notifies; ``trace`` asks for a
    notice from each relay. Raises ``InputError`` for seconds of more than nine
    digits, and for zero or less with ``"R"``.
    """

    seconds: int
    mode: Literal["N", "R"] = "N"
    trace: bool = False

    def __post_init__(self) -> None:
        _integer("BY", self.seconds, -_MAX_SECONDS, _MAX_SECONDS)
        _one_of("BY mode", self.mode, ("N", "R"))
        if self.mode == "R" and self.seconds <= 0:
            raise InputError("BY with mode R takes a time above zero (RFC 2852 4)")

    def __str__(self) -> str:
        return f"{self.seconds:d};{self.mode}{'T' if self.trace else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Params:
    """What both sets share: unknown keywords by name, and the pairs made once."""

    extra: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    """Keywords without a field of their own; each must be one that the server advertises."""
    _pairs: tuple[Pair, ...] = field(init=False, repr=False, compare=False, default=())

    def items(self) -> list[Pair]:
        """Keywords and values as they stand on the wire, in the order of the fields."""
        return list(self._pairs)

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def check(self, capabilities: Capabilities, *, is_tls: bool = False) -> None:
        """Raise ``NotSupportedError`` for the first parameter that the server does not offer.

        REQUIRETLS needs TLS as well (RFC 8689 2).
        """
        for keyword, value in self._pairs:
            extension, rfc = _extension(keyword, value)
            if extension not in capabilities:
                raise NotSupportedError(
                    f"{keyword} needs {extension} ({rfc}), which the server does not offer", keyword=extension
                )
            if keyword == "REQUIRETLS" and not is_tls:
                raise NotSupportedError("REQUIRETLS goes over TLS only (RFC 8689 2)", keyword=keyword)

    def _settle(self, table: tuple[Parameter, ...]) -> None:
        put = object.__setattr__
        if not isinstance(self.extra, Mapping):
            raise InputError(f"extra is a mapping of keywords, not {type(self.extra).__name__}")
        put(self, "extra", dict(self.extra))
        put(self, "_pairs", (*self._known(table), *_extra_pairs(self.extra)))

    def _known(self, table: tuple[Parameter, ...]) -> Iterator[Pair]:
        for parameter in table:
            value = getattr(self, parameter.field)
            if value is not None and value is not False and value != ():
                yield parameter.keyword, parameter.checked(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFromParams(_Params):
    """ESMTP parameters of MAIL. True where at least one is set.

    Raises ``InputError`` for a value that its RFC does not allow; ``check`` asks
    whether a server offers what is set.
    """

    size: int | None = None
    """Octets of the content, before dot-stuffing (RFC 1870 4)."""
    body: Body | None = None
    """RFC 6152 2; ``"BINARYMIME"`` goes by BDAT only (RFC 3030 3)."""
    smtputf8: bool = False
    """RFC 6531 3.4."""
    ret: Ret | None = None
    """What a delivery report returns: the whole message or its headers (RFC 3461 4.3)."""
    envid: str | None = None
    """Envelope identifier, printable ASCII, at most 100 octets when encoded (RFC 3461 4.4)."""
    auth: str | None = None
    """The submitter: an ASCII mailbox, or ``"<>"`` where unknown (RFC 4954 5)."""
    requiretls: bool = False
    """RFC 8689 2."""
    mt_priority: int | None = None
    """-9 to 9 (RFC 6710 4)."""
    holdfor: int | None = None
    """Seconds, 1 to 999,999,999 (RFC 4865 4)."""
    holduntil: datetime | str | None = None
    """A time with its zone, or one as RFC 3339 writes it (RFC 4865 4)."""
    by: DeliverBy | None = None
    """RFC 2852 4."""

    def __post_init__(self) -> None:
        if self.holdfor is not None and self.holduntil is not None:
            raise InputError("HOLDFOR and HOLDUNTIL exclude each other (RFC 4865 4)")
        self._settle(MAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RcptToParams(_Params):
    """ESMTP parameters of RCPT. True where at least one is set.

    Raises ``InputError`` for a value that its RFC does not allow; ``check`` asks
    whether a server offers what is set.
    """

    notify: Iterable[Notify] | str = ()
    """When to report: ``"NEVER"`` alone, or any of the others (RFC 3461 4.1); kept as a tuple."""
    orcpt: str | None = None
    """The original recipient: ``type;address``, or an address alone (RFC 3461 4.2, RFC 6533 3)."""
    rrvs: datetime | str | None = None
    """The mailbox has been its owner's since then (RFC 7293 3.1); text may end in ``;C`` or ``;R``."""

    def __post_init__(self) -> None:
        notify = self.notify.split(",") if isinstance(self.notify, str) else self.notify
        if not isinstance(notify, Iterable):
            raise InputError("NOTIFY takes an iterable of conditions (RFC 3461 4.1)")
        object.__setattr__(self, "notify", tuple(notify))
        self._settle(RCPT)


RcptParams: TypeAlias = RcptToParams | Sequence[RcptToParams | None] | None
"""Of all recipients the same, or one for each."""


def _integer(keyword: str, value: object, low: int, high: int) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{keyword} is an integer from {low} to {high}")
    return f"{value:d}"


def _one_of(keyword: str, value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{keyword} is one of {', '.join(choices)}")
    return str(value)


def _flag(value: object) -> None:
    if value is not True:
        raise InputError("a parameter without a value is True or False")


def _envid(envid: str) -> str:
    encoded = xtext(envid)
    if not 0 < len(encoded) <= _MAX_ENVID:
        raise InputError(f"ENVID is 1 to {_MAX_ENVID} characters of xtext (RFC 3461 4.4)")
    return encoded


def _auth(mailbox: str) -> str:
    path = ReversePath(mailbox)
    return xtext(path.wire[1:-1]) if path else "<>"


def _notify(values: tuple[str, ...]) -> str:
    for value in values:
        _one_of("NOTIFY", value, get_args(Notify))
    if len(set(values)) < len(values) or ("NEVER" in values and len(values) > 1):
        raise InputError("NOTIFY names each condition once, and NEVER stands alone (RFC 3461 4.1)")
    return ",".join(values)


def _orcpt(address: str) -> str:
    if not isinstance(address, str):
        raise InputError("ORCPT is text (RFC 3461 4.2)")
    typed = _TYPED_ADDRESS.fullmatch(address)
    kind, text = typed.groups() if typed else ("rfc822" if address.isascii() else "utf-8", address)
    if "=" in kind:  # an atom of RFC 3461 4.2 may hold it, a parameter's value may not (RFC 5321 4.1.2)
        raise InputError("the address type of ORCPT holds an equals sign")
    encoded = f"{kind};{_utf8_address(text) if kind.lower() == 'utf-8' else xtext(text)}"
    if not text or len(encoded) > _MAX_ORCPT:
        raise InputError(f"ORCPT is an address of at most {_MAX_ORCPT} characters of xtext (RFC 3461 4.2)")
    return encoded


def _utf8_address(text: str) -> str:
    # utf-8-addr-xtext of RFC 6533 3: ASCII, so it also passes a server without SMTPUTF8.
    if any(not (char.isprintable() or char == "\u200c" or char == "\u200d") for char in text):
        raise InputError("ORCPT holds a character that is not printable (RFC 6533 3)")
    return _NOT_QCHAR.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", text)


def _date_time(moment: datetime | str) -> str:
    try:
        at = datetime.fromisoformat(moment) if _is_token(moment, _DATE_TIME) else moment
        # Without a zone, astimezone would guess that of this machine.
        if isinstance(at, datetime) and at.utcoffset() is not None:
            return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    except (OverflowError, ValueError):
        pass  # no such day, or none in UTC
    raise InputError("a time is a date-time with its zone (RFC 3339 5.6)")


def _rrvs(moment: datetime | str) -> str:
    if not isinstance(moment, str):
        return _date_time(moment)
    text, semicolon, action = moment.partition(";")
    if semicolon:
        _one_of("the action of RRVS", action, ("C", "R"))
    return _date_time(text) + semicolon + action


def _by(by: object) -> str:
    if not isinstance(by, DeliverBy):
        raise InputError("BY is a DeliverBy (RFC 2852 4)")
    return str(by)


class Parameter(NamedTuple):
    """A parameter that has a field of its own."""

    field: str
    keyword: str
    extension: str
    """The EHLO keyword that grants it, defined in ``rfc``."""
    rfc: str
    written: Callable[[Any], str | None]
    """Its value as on the wire; raises ``InputError`` for one that must not get there."""

    def checked(self, value: Any) -> str | None:
        """The same, and the error names the parameter."""
        try:
            return self.written(value)
        except InputError as error:
            if error.text.startswith(self.keyword):
                raise
            raise error.at(self.keyword) from None


def _parameter(field: str, extension: str, rfc: str, written: Callable[[Any], str | None]) -> Parameter:
    return Parameter(field, field.upper().replace("_", "-"), extension, rfc, written)


MAIL: Final = (
    _parameter("size", "SIZE", "RFC 1870", lambda value: _integer("SIZE", value, 0, 10**20 - 1)),
    _parameter("body", "8BITMIME", "RFC 6152", lambda value: _one_of("BODY", value, get_args(Body))),
    _parameter("smtputf8", "SMTPUTF8", "RFC 6531", _flag),
    _parameter("ret", "DSN", "RFC 3461", lambda value: _one_of("RET", value, get_args(Ret))),
    _parameter("envid", "DSN", "RFC 3461", _envid),
    _parameter("auth", "AUTH", "RFC 4954", _auth),
    _parameter("requiretls", "REQUIRETLS", "RFC 8689", _flag),
    _parameter("mt_priority", "MT-PRIORITY", "RFC 6710", lambda value: _integer("MT-PRIORITY", value, -9, 9)),
    _parameter(
        "holdfor", "FUTURERELEASE", "RFC 4865", lambda value: _integer("HOLDFOR", value, 1, _MAX_SECONDS)
    ),
    _parameter("holduntil", "FUTURERELEASE", "RFC 4865", _date_time),
    _parameter("by", "DELIVERBY", "RFC 2852", _by),
)
RCPT: Final = (
    _parameter("notify", "DSN", "RFC 3461", _notify),
    _parameter("orcpt", "DSN", "RFC 3461", _orcpt),
    _parameter("rrvs", "RRVS", "RFC 7293", _rrvs),
)
_BY_KEYWORD: Final = {each.keyword: each for each in (*MAIL, *RCPT)}


def _extension(keyword: str, value: str | None) -> tuple[str, str]:
    if value == "BINARYMIME" and keyword == "BODY":
        return "BINARYMIME", "RFC 3030"
    known = _BY_KEYWORD.get(keyword)
    return (keyword, "RFC 5321 2.2.1") if known is None else (known.extension, known.rfc)


def _extra_pairs(extra: Mapping[str, str | None]) -> Iterator[Pair]:
    seen = set(_BY_KEYWORD)
    for name, value in extra.items():
        if not _is_token(name, _KEYWORD) or not (value is None or _is_token(value, _VALUE)):
            raise InputError("an extra parameter is esmtp-keyword[=esmtp-value] (RFC 5321 4.1.2)")
        keyword = name.upper()
        # Twice the same keyword: servers differ in which of the two they believe.
        if keyword in seen:
            raise InputError(f"the parameter {keyword} has a field of its own or is named twice")
        seen.add(keyword)
        yield keyword, value


def _is_token(value: object, pattern: re.Pattern[str]) -> TypeGuard[str]:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
