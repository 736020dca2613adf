"""The content of one mail object on its way: by DATA, or by BDAT in chunks (RFC 5321 4.1.1.4, RFC 3030).

Both write everything but the last octets and return these: the write that
holds them begins the doubt, and may be shared with what comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..errors import InputError, SmtpError
from ..wire import command
from ..wire.limits import BDAT_CHUNK, Stage
from ..wire.reply import Reply
from .effects import LAST, WITHHELD, Flow, Octets, Send
from .plan import Plan, is_foreign

Pieces: TypeAlias = tuple[Octets, ...]


class ContentFailed(Exception):
    """The caller's content raised what is no ``SmtpError``; its ``__cause__``."""


class Early(Exception):
    """The content is over before its time: by the ``reply`` to a chunk, or by one that is there to be read.

    Before anything of it ``is_begun`` that cannot be about the content: it is one too many for the envelope.
    """

    def __init__(self, reply: Reply | None = None, *, is_begun: bool = True) -> None:
        self.reply = reply
        self.is_begun = is_begun


def by_data(plan: Plan) -> Flow[tuple[Pieces, bytes]]:
    """Write the content for DATA; its last octets with the end of data, and which of them are a command.

    Raises ``Early``, as ``by_bdat``.
    """
    # The terminator goes in the last write, so that the doubt begins with that.
    return _write(b"", slices(plan), command.END_OF_DATA)


def by_bdat(plan: Plan) -> Flow[tuple[Pieces, bytes]]:
    """Write the content in chunks (RFC 3030 2), each after the reply to the one before; the same.

    Content of known size is one chunk and costs one round trip. A server that
    refuses a chunk without swallowing it reads content as commands, so after
    any refusal the connection is closed.
    """
    for head, pieces, last in _chunks(slices(plan), bdat_size(plan)):
        held, shown = yield from _write(head, pieces)
        if last:
            return held, shown
        yield Send(b"".join(held), shown)
        reply: Reply = yield LAST[Stage.CONTENT]
        if not reply.is_positive:
            raise Early(reply)
    raise AssertionError("the last chunk is marked as the last")


def bdat_size(plan: Plan) -> int | None:
    """Octets of the content as BDAT carries it; None where it can be read only once."""
    measure = plan.content.measure
    if measure is None:
        return None
    return measure.raw_size if plan.body == "BINARYMIME" else measure.size


def slices(plan: Plan) -> Iterator[Octets]:
    """The content in slices, as DATA or BDAT carries it."""
    as_is = plan.options.as_is
    # What it may hold, where it could not be measured or has changed since.
    allowed = {
        "allow_8bit": as_is or plan.body not in (None, "7BIT"),
        "allow_long_lines": as_is,
        "allow_nul": False,
    }
    if plan.options.bdat:
        return plan.content.for_bdat(binary=plan.body == "BINARYMIME", **allowed)
    return plan.content.for_data(**allowed)


def _write(head: bytes, pieces: Iterator[Octets], end: bytes = b"") -> Flow[tuple[Pieces, bytes]]:
    """Write ``head``, the pieces and ``end``, but for the last write: that, and what of it is a command."""
    held: Octets = b""
    shown = head
    while (piece := next_piece(pieces)) is not None:
        if held:
            if written := (yield Send(held, shown, watch=True)):
                raise Early(is_begun=not (head and shown) or written != WITHHELD)
            held, shown = piece, b""
        else:
            held = b"".join((head, piece)) if head else piece
    return (held or head, end), shown


def next_piece(pieces: Iterator[Octets]) -> Octets | None:
    """The next piece."""
    try:
        return next(pieces, None)
    except SmtpError as error:
        if not is_foreign(error):
            raise
        raise InputError("the content could not be read", stage=Stage.CONTENT) from error
    except Exception as error:
        raise ContentFailed from error


def _chunks(slices: Iterator[Octets], size: int | None) -> Iterator[tuple[bytes, Iterator[Octets], bool]]:
    """Slices as chunks: (BDAT line, slices, whether the last).

    Where the size is known the slices pass through as one chunk; otherwise they
    are gathered, since a chunk's size stands before it.
    """
    if size is not None:
        yield command.bdat(size, last=True), slices, True
        return
    gathered: list[Octets] = []
    octets = 0
    while (piece := next_piece(slices)) is not None:
        if octets >= BDAT_CHUNK:
            yield command.bdat(octets, last=False), iter(gathered), False
            gathered, octets = [], 0
        gathered.append(piece)
        octets += len(piece)
    yield command.bdat(octets, last=True), iter(gathered), True
