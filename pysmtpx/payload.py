"""A mail object as plain values that survive JSON, for a queue between processes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypeVar

from .errors import InputError, MessageTooLarge, NotSupportedError
from .flow.plan import Options, make_plan
from .message import NARROW, WIDE, AnyMessage, prepare
from .pooling.job import Envelope, taken_apart
from .values import flag
from .wire.address import ForwardPath, ReversePath
from .wire.capabilities import Capabilities, Protocol
from .wire.content import Content
from .wire.envelope import MailObject, envelope_twice, part
from .wire.params import MAIL, RCPT, DeliverBy, MailFromParams, RcptToParams

VERSION: Final = 1
"""Of the form below. A reader takes no other one: what it does not understand it must not send."""
_Path = TypeVar("_Path", ReversePath, ForwardPath)

MAX_SIZE: Final = 10 * 1024 * 1024
"""Octets that the content of one message may take in a queue, unless the caller says otherwise."""

_TEXTS: Final = ("sender", "content", "encoding")
_FLAGS: Final = ("all_or_nothing", "allow_long_lines")
_KEYS: Final = {"version", "recipients", "mail_params", "rcpt_params", *_TEXTS, *_FLAGS}
_OF_ITS_OWN: Final = Envelope()
"""The envelope of a mail object, or what the headers of a message say."""
_INSISTED: Final = "insisted"
"""The key of a list of paths for which the caller said ``strict=False``; left out where that is no one."""
_EXTENSIONS: Final = frozenset(each.extension for each in (*MAIL, *RCPT))


@dataclass(frozen=True, slots=True)
class Submission:
    """A mail object, and how it is to be sent."""

    mail: MailObject
    all_or_nothing: bool = False
    allow_long_lines: bool = False

    def part(self, indices: Sequence[int]) -> MailObject:
        """The mail object for some of its recipients, by place."""
        return self.mail if len(indices) == len(self.mail.recipients) else part(self.mail, indices)


def make_submission(
    message: AnyMessage | MailObject,
    envelope: Envelope = _OF_ITS_OWN,
    *,
    all_or_nothing: bool = False,
    allow_long_lines: bool = False,
    max_size: int = MAX_SIZE,
) -> Submission:
    """The submission that sends this message to a server that is not known yet.

    The envelope comes from the header section where it is not given, Bcc goes,
    Date and Message-ID are added where absent; a message object is written in 7
    bits. A ``MailObject`` stays as it is. The content is read into memory.

    Raises ``InputError`` and ``NotSupportedError`` for what no server could be
    sent, ``MessageTooLarge`` for content of more than ``max_size`` octets.
    """
    if isinstance(message, MailObject) and any(each is not None for each in envelope):
        raise envelope_twice(message)
    message, envelope = taken_apart(message, envelope)
    mail = message if isinstance(message, MailObject) else _prepared(message, envelope)
    mail = part(mail, range(len(mail.recipients)), _octets(mail.content, max_size))
    _check(mail, allow_long_lines)
    return Submission(
        mail, flag("all_or_nothing", all_or_nothing), flag("allow_long_lines", allow_long_lines)
    )


def _prepared(message: AnyMessage, envelope: Envelope) -> MailObject:
    try:
        return prepare(message, NARROW, **envelope._asdict())
    except NotSupportedError:
        return prepare(message, WIDE, **envelope._asdict())  # signed, and so it must stay in 8 bits


def _octets(content: Content, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in content.for_bdat(binary=True):
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(bytes(piece))
    return b"".join(pieces)


def _too_large(limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"the content takes more than the {limit} octets that a queue is to carry (max_size)"
    )


def _check(mail: MailObject, allow_long_lines: bool) -> None:
    """Find now what no server could take, however much it offers."""
    given = filter(None, (mail.mail_params, *(mail.rcpt_params or ())))
    extra = [name.upper() for params in given for name in params.extra]
    offered = Capabilities(dict.fromkeys([*_EXTENSIONS, *extra], ()))
    options = Options(as_is=allow_long_lines)
    # Whether the server is on this host, and knows mailboxes without a domain, the worker will see.
    make_plan(mail, offered, protocol=Protocol.SMTP, is_tls=True, options=options, is_local=True)


# To plain values.


def pack(submission: Submission, max_size: int = MAX_SIZE) -> dict[str, Any]:
    """The payload: nothing but dicts, lists, text, whole numbers, booleans and None.

    Raises ``MessageTooLarge`` where the content takes more than ``max_size``
    characters in it; base64, which 8-bit content needs, takes a third more.
    """
    mail = submission.mail
    octets = _octets(mail.content, max_size)
    is_text = octets.isascii()
    content = octets.decode("ascii") if is_text else base64.b64encode(octets).decode("ascii")
    if len(content) > max_size:
        raise _too_large(max_size)
    rcpt_params = mail.rcpt_params
    insisted = _insisted(mail)
    return {
        "version": VERSION,
        "sender": str(mail.sender),
        "recipients": [str(path) for path in mail.recipients],
        "content": content,
        "encoding": "7bit" if is_text else "base64",
        "mail_params": None if mail.mail_params is None else _plain(mail.mail_params),
        "rcpt_params": None
        if rcpt_params is None
        else [_plain(each or RcptToParams()) for each in rcpt_params],
        "all_or_nothing": submission.all_or_nothing,
        "allow_long_lines": submission.allow_long_lines,
        **({_INSISTED: insisted} if insisted else {}),
    }


def _insisted(mail: MailObject) -> list[str]:
    """The paths that are without doubt only because the caller said so."""
    paths = (mail.sender, *mail.recipients)
    return sorted({str(path) for path in paths if not path.doubt and type(path).tolerant(str(path)).doubt})


def _plain(params: MailFromParams | RcptToParams) -> dict[str, Any]:
    """The fields that are set; a time as it stands on the wire."""
    wire = dict(params.items())
    plain: dict[str, Any] = {}
    for field in fields(params):
        value = getattr(params, field.name)
        if field.name.startswith("_") or value is None or value is False or value in ((), {}):
            continue  # not set; and a zero is set
        if field.name in ("holduntil", "rrvs"):
            value = wire[field.name.upper()]
        elif isinstance(value, DeliverBy):
            value = asdict(value)
        elif isinstance(value, tuple):
            value = list(value)
        plain[field.name] = dict(value) if isinstance(value, Mapping) else value
    return plain


# From plain values.


def unpack(payload: object, max_size: int = MAX_SIZE) -> Submission:
    """The submission of a payload.

    Raises ``InputError`` for one of another version, and for one that no
    ``pack`` could have made; ``MessageTooLarge`` for content that ``pack`` would
    not have taken with this ``max_size``.
    """
    if not isinstance(payload, Mapping):
        raise InputError(f"a payload is a mapping, not {type(payload).__name__}")
    version = payload.get("version")
    if version != VERSION or isinstance(version, bool):
        raise InputError(f"a payload of version {version!r:.40}: this reader knows version {VERSION}")
    try:
        return _unpacked(payload, max_size)
    except MessageTooLarge:
        raise
    except InputError as error:
        raise InputError(f"malformed payload: {error.text}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"malformed payload: {type(error).__name__}") from error


def _unpacked(payload: Mapping[str, Any], max_size: int) -> Submission:
    if payload.keys() - {_INSISTED} != _KEYS:
        raise InputError("its keys are not those of a payload")
    _require(payload, str, _TEXTS)
    _require(payload, bool, _FLAGS)
    if len(payload["content"]) > max_size:  # before anything is made of it
        raise _too_large(max_size)
    rcpt_params = payload["rcpt_params"]
    recipients = _texts("recipients", payload["recipients"])
    insisted = frozenset(_texts(_INSISTED, payload.get(_INSISTED, [])))
    mail = MailObject(
        _path(ReversePath, payload["sender"], insisted),
        [_path(ForwardPath, path, insisted) for path in recipients],
        _content(payload["content"], payload["encoding"]),
        mail_params=None if payload["mail_params"] is None else _mail_params(payload["mail_params"]),
        rcpt_params=None if rcpt_params is None else [RcptToParams(**_named(each)) for each in rcpt_params],
    )
    return Submission(mail, payload["all_or_nothing"], payload["allow_long_lines"])


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{name} is a list of text")
    return value


def _path(kind: type[_Path], text: str, insisted: Collection[str]) -> _Path:
    return kind(text, strict=False) if text in insisted else kind.tolerant(text)


def _require(payload: Mapping[str, Any], kind: type, names: Collection[str]) -> None:
    for name in names:
        if type(payload[name]) is not kind:
            raise InputError(f"{name} is not of type {kind.__name__}")


def _content(content: str, encoding: str) -> bytes:
    if encoding == "7bit" and content.isascii():
        return content.encode("ascii")
    if encoding == "base64":
        try:
            return base64.b64decode(content, validate=True)
        except binascii.Error:
            raise InputError("content is not base64") from None
    raise InputError("content is neither 7-bit text nor base64")


def _mail_params(plain: object) -> MailFromParams:
    named = _named(plain)
    if "by" in named:
        named["by"] = DeliverBy(**_named(named["by"]))
    return MailFromParams(**named)


def _named(plain: object) -> dict[str, Any]:
    if not isinstance(plain, Mapping) or any(name.startswith("_") for name in plain):
        raise InputError("parameters are a mapping of their names")
    return dict(plain)
