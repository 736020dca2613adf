"""What every way to send has in common: the keywords, and one message made ready for one server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from email.message import Message
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from .channel import MailStream
from .errors import InputError, SmtpError
from .flow.allowance import Allowance
from .flow.pipeline import Done
from .flow.plan import Options, Plan, make_plan
from .message import written
from .outcome import Outcome
from .outgoing import Outgoing, told, withheld_of
from .records import fields
from .values import whole
from .watching import Watches
from .wire.capabilities import Capabilities, Protocol
from .wire.content import Unwritten
from .wire.envelope import MailObject
from .wire.limits import SLICE, WINDOW, Stage

_log: Final = logging.getLogger("pysmtpx")

Mail: TypeAlias = "MailObject | Message[Any, Any]"
"""What a stream takes; ``EmailMessage`` is a ``Message``."""

_UNWATCHED: Final = nullcontext()


def possible_in_flight(count: int, capabilities: Capabilities) -> int:
    """How many whole transactions may be under way; 1 without CHUNKING, and the log says so.

    Raises ``InputError`` unless ``count`` is a whole number from 1.
    """
    whole("in_flight", count)
    if count > 1 and not capabilities.chunking:
        name = capabilities.greeting_name
        extra = fields(event="warning", server=name or None, in_flight=count)
        text = "%s offers no CHUNKING (RFC 3030): one message is in flight, not %d"
        _log.warning(text, name, count, extra=extra)
        return 1
    return count


def check_mail(message: object) -> None:
    """Raise ``InputError`` for what a stream or pool cannot send."""
    if not isinstance(message, MailObject | Message):
        kind = type(message).__name__
        raise InputError(f"a message is a MailObject or an email message, not {kind}")


def check_messages(messages: object) -> None:
    """Raise ``InputError`` for what is one message, or none."""
    if isinstance(messages, MailObject | Message | str | bytes) or not isinstance(messages, Iterable):
        raise InputError("messages is an iterable of MailObjects and email messages")


def plan_for(
    message: Mail,
    capabilities: Capabilities,
    protocol: Protocol,
    is_tls: bool,
    options: Options,
    is_local: bool = False,
    allowance: Allowance | None = None,
    outgoing: Outgoing | None = None,
    envelope: Mapping[str, Any] | None = None,
) -> Plan | SmtpError:
    """One message of a stream, ready to be written, or the error for which it cannot be.

    ``envelope`` holds keywords of ``prepare``, which says what they mean.
    """
    mail: MailObject | None = None
    try:
        if type(message) is MailObject and type(message.content) is not Unwritten and not envelope:
            mail = message
        else:
            check_mail(message)
            mail = message if isinstance(message, MailObject) else None
            mail = written(message, capabilities, **(envelope or {}))
        if outgoing is not None:
            mail = outgoing.leaving(mail)
        return make_plan(
            mail,
            capabilities,
            protocol=protocol,
            is_tls=is_tls,
            options=options,
            is_local=is_local,
            allowance=allowance,
        )
    except SmtpError as raised:
        error = raised
    except Exception as raised:
        error = InputError("the message could not be read", stage=Stage.INPUT)
        error.__cause__ = raised
    if mail is not None:
        account_for(error, mail)
    return error


def account_for(error: SmtpError, mail: MailObject) -> None:
    """Name the recipients of a message that never came to MAIL, and whom it is kept from."""
    if not error.accounts_for_anyone:
        error.unsent_recipients = mail.recipients
    if type(mail) is not MailObject:
        told(error, withheld_of(mail))


def send_all(
    stream: MailStream,
    messages: Iterable[Mail],
    plan_of: Callable[[Mail], Plan | SmtpError],
    watches: Watches | None = None,
    *,
    may_look_ahead: bool = True,
) -> Iterator[Outcome]:
    """Send messages in the thread that asks for the outcomes, which come in order.

    A list is known to have the next message at once. An iterator may take its time,
    so it is asked only when nothing is under way. What it raises comes after all outcomes.
    ``may_look_ahead``: to plan a mail object runs no code of the caller's.
    """
    failure: Exception | None = None
    each, is_list = iter(messages), isinstance(messages, Sequence)
    ahead: _Ahead | None = None
    if may_look_ahead and isinstance(messages, Sequence) and type(messages) in (list, tuple):
        ahead = _Ahead(messages, plan_of)
        plan_of = ahead.plan_of
    meanwhile = None if ahead is None else ahead.look
    outcome = _outcome if watches is None else partial(_watched, watches)
    with stream, watches or _UNWATCHED:
        while stream.is_open:
            try:
                message = next(each)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            match plan_of(message):
                case Plan() as plan:
                    token: Any = message
                    if type(plan.mail) is not MailObject:
                        token = _Screened(message, plan.mail)
                    if watches is not None:
                        token = watches.begin(message, plan.mail, token)
                    yield from map(outcome, stream.push(token, plan, meanwhile=meanwhile))
                    if not is_list:
                        yield from map(outcome, stream.finish())
                case unsent:
                    yield from map(outcome, stream.finish())
                    token = message if watches is None else watches.begin(message)
                    yield outcome(Done(token, unsent))
        yield from map(outcome, stream.finish())
    if failure is not None:
        raise failure


class _Ahead:
    """The plans of a list's messages; the next one's is made while the server is at work.

    A reply waits meanwhile, so only for what is soon done, and cannot change before its turn.
    """

    def __init__(self, messages: Sequence[Mail], plan_of: Callable[[Mail], Plan | SmtpError]) -> None:
        self._messages = messages
        self._make = plan_of
        self._taken = 0
        self._next: tuple[Mail, Plan] | None = None

    def plan_of(self, message: Mail) -> Plan | SmtpError:
        """The plan of the message whose turn it is."""
        self._taken += 1
        ahead, self._next = self._next, None
        # The caller, who has had an outcome since, may have put another one in its place.
        return ahead[1] if ahead is not None and ahead[0] is message else self._make(message)

    def look(self) -> None:
        """Make the next plan, if there is one and nothing is wrong with it; else its turn tells.

        Here the stack is deeper than it will be then, and what is raised would be about the message before.
        """
        try:
            message = self._messages[self._taken]
            if type(message) is MailObject and 0 < message.content.resident <= SLICE:
                plan = self._make(message) if not message.recipients[WINDOW:] else None
                self._next = (message, plan) if type(plan) is Plan else None
        except Exception:  # it is met again in its turn, and told there
            pass


class _Screened(NamedTuple):
    """A message that does not go to all of its recipients."""

    message: Mail
    mail: MailObject


def _watched(watches: Watches, done: Done) -> Outcome:
    return _outcome(done._replace(token=watches.end(done)))


def _outcome(done: Done) -> Outcome:
    token = done.token
    if type(token) is _Screened:
        return Outcome.of(token.message, told(done.outcome, withheld_of(token.mail)))
    return Outcome.of(token, done.outcome)
