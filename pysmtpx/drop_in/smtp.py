"""The calls of ``smtplib`` that are conversations: ``sendmail``, ``send_message``, ``login``, ``starttls``.

They go by the project's own flows where nobody has a say in the single
commands, and command by command, by the standard library, where somebody has.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from email.message import Message
from operator import attrgetter
from smtplib import (
    SMTPDataError,
    SMTPException,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from typing import Any, Final, TypeVar

from .. import observing
from ..errors import ConnectionLost, DeliveryUnknown, SmtpError
from ..flow.effects import Flow, Send
from ..flow.transaction import Transaction
from ..frames import conceals
from ..observing import Peer, ReplyTimes
from ..sasl.credentials import Provider
from ..sasl.own import SaslMechanism
from ..watching import Watch, is_told
from ..wire.limits import Stage
from ..wire.reply import Reply
from . import login, redaction, results
from .arguments import SendmailArguments, check_arguments, make_plan, one_address, recipients_of
from .commands import Commands, one_call
from .flows import lower
from .lines import Lines
from .outgoing import leaving
from .results import Refused, is_acceptance
from .sockets import Trust, make_context, peer_of, secured, tls_by

_T = TypeVar("_T")
_INFO: Final = logging.INFO
_E = TypeVar("_E", bound=SMTPException)

_NAMES: Final = ("send", "putcmd", "getreply", "docmd", "mail", "rcpt", "data", "rset", "_rset")
"""Whoever overrides one of these wants to be asked for each command."""
_CLOSING: Final = 421
_HOOKS: Final = frozenset(_NAMES)
_of_commands: Final = attrgetter(*_NAMES)
_OWN: Final = _of_commands(Commands)
_LOGIN_HOOKS: Final = ("auth", *login.known_methods())


class Conversations(Commands):
    """The standard class, with its longer calls by the project's flows."""

    _times: ReplyTimes | None = None
    """For those who observe."""
    _heard: Reply | None = None
    """The last reply that a flow received."""

    # -- by flows -----------------------------------------------------------------------

    @property
    def _goes_stepwise(self) -> bool:
        """Whether somebody has a say in the single commands, or in what they go over."""
        return (
            self._real_socket() is None
            or not (self.file is None or isinstance(self.file, Lines))
            or _of_commands(type(self)) != _OWN
            or not _HOOKS.isdisjoint(self.__dict__)
        )

    def _run(self, flow: Flow[_T], *, listen: bool = False) -> _T:
        """Drive a flow over the socket; where that closes the connection, so it is here."""
        driver = self._driver_now()
        driver.on_send = self._said
        self._times = ReplyTimes(self._peer) if observing.observers else None
        listen = listen or self._times is not None
        driver.on_reply = self._listened if listen or self.debuglevel > 0 else None
        self._heard = None
        try:
            return driver.run(flow, self._deadline or self._new_deadline(), self._timeout, self._unread)
        finally:
            driver.on_send = driver.on_reply = (
                None  # it would be a ring, and nobody closed a socket that is dropped
            )
            if driver.stream.closed:
                self.close()

    @property
    def _peer(self) -> Peer:
        return peer_of(self.sock, self._host, lmtp=self._is_lmtp)

    def _said(self, effect: Send) -> None:
        if self._times is not None:
            self._times.sent(effect)
        if effect.shown is None:  # else there is content in it
            lower(effect)
        self._in_auth = effect.secret
        data = redaction.redacted(effect.data) if effect.secret else bytes(effect.data)
        if self.debuglevel > 0:
            commands = data.splitlines(keepends=True) if effect.shown is None else ()
            for line in commands:
                self._print_debug("send:", repr(line.decode("utf-8", "replace")))
            if effect.shown is not None:
                self._print_debug("send:", repr(data))
        sys.audit("smtplib.send", self, data)

    def _listened(self, reply: Reply, stage: Stage) -> None:
        self._heard = reply
        if self._times is not None:
            self._times.replied(reply, stage)
        if self.debuglevel > 0:
            self._show(reply, stage)

    def _show(self, reply: Reply, stage: Stage) -> None:
        """In the lines that ``smtplib`` prints."""
        code, text = results.pair(reply)
        if self._in_auth:  # a server may repeat what it was sent
            self._print_debug(f"reply: retcode ({code}); Msg: {redaction.HIDDEN}")
            return
        for line in results.lines(reply):
            self._print_debug("reply:", repr(line))
        self._print_debug(f"reply: retcode ({code}); Msg: {text!r}")
        if stage in (Stage.DATA, Stage.FINAL):
            self._print_debug("data:", (code, text))

    # -- sending ------------------------------------------------------------------------

    @one_call
    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: Any,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refused:
        """Perform an entire mail transaction, pipelined where the server offers it (RFC 2920).

        ``msg`` is ASCII text or bytes; both go with CRLF line ends. Returns the
        refused recipients, each with its reply, where at least one was accepted;
        under LMTP also those refused after the content (RFC 2033 4.2), and those
        from whom ``allow_recipients`` keeps mail.

        Raises ``SMTPHeloError``, ``SMTPSenderRefused`` (also, with 552, for a
        message over the server's SIZE, of which nothing is sent),
        ``SMTPRecipientsRefused``, ``SMTPDataError``, ``SMTPNotSupportedError``
        and ``SMTPServerDisconnected``. The last also where the end of data was
        sent and no reply came: then ``unknown_recipients`` is not empty and the
        message may have been delivered; its ``__cause__`` is the error of
        ``pysmtpx``.
        """
        sender, recipients = one_address(from_addr), recipients_of(to_addrs)
        withheld: Refused = {}
        self._begin_transaction()
        try:
            self.ehlo_or_helo_if_needed()
            features = self._features if self.does_esmtp else None
            if self.outgoing is not None:
                recipients, msg, withheld = leaving(self.outgoing, sender, recipients, msg)
            given = check_arguments(sender, recipients, msg, mail_options, rcpt_options, features)
            if self._goes_stepwise or not recipients:
                refused = self._send_stepwise(given)
            else:
                refused = self._send_by_flow(
                    given, pipelined=features is not None and "pipelining" in features
                )
            return refused | withheld if withheld else refused
        except SMTPRecipientsRefused as error:
            error.recipients |= withheld
            raise
        except SMTPServerDisconnected as error:
            self._account_for(error, recipients)
            raise

    @property
    def _features(self) -> dict[str, str]:
        """What the server offers, and a subclass does not deny."""
        if type(self).has_extn is Commands.has_extn and "has_extn" not in self.__dict__:
            return self.esmtp_features
        return {name: value for name, value in self.esmtp_features.items() if self.has_extn(name)}

    def _account_for(self, error: SMTPServerDisconnected, recipients: tuple[str, ...]) -> None:
        """Say on a loss that did not come from a flow whose message may have been delivered."""
        if hasattr(error, "unknown_recipients"):
            return
        committed = self._content_begun
        lost: SmtpError = DeliveryUnknown() if committed else ConnectionLost()
        results.carrying(error, self._steps.lost(lost, recipients, committed=committed))

    def _send_by_flow(self, given: SendmailArguments, *, pipelined: bool) -> Refused:
        if given.utf8:
            self._demand_utf8()
        plan = make_plan(given, pipelined=pipelined, lmtp=self._is_lmtp)
        transaction = Transaction(plan)
        watch = Watch(self._peer, plan.mail) if observing.observers or is_told(_INFO) else None
        result: Any = None
        try:
            result = self._run(transaction.run())
        except SmtpError as error:
            result = error
            if error.stage is Stage.INPUT:
                transaction.account().verdict(error)  # the server had gone before: nothing was written
            raise results.raised(error, transaction.account(), given.sender) from error
        finally:
            if watch is not None:
                watch.end(given.content, result or sys.exc_info()[1])
        rejected = result.rejected_recipients
        return results.refused(rejected) if rejected else {}

    def _send_stepwise(self, given: SendmailArguments) -> Refused:
        """By the single commands, in the order and with the exceptions of ``smtplib``."""
        sender, recipients, octets, _, mail_options, rcpt_options, _ = given
        code, text = self.mail(sender, mail_options)
        if not is_acceptance(code):
            raise self._given_up(code, SMTPSenderRefused(code, text, sender))
        refused: Refused = {}
        count = 0
        for path in recipients:
            code, text = self.rcpt(path, rcpt_options)
            if is_acceptance(code):
                continue
            refused[path] = (code, text)
            count += 1
            if code == _CLOSING:
                raise self._given_up(code, SMTPRecipientsRefused(refused))
        if count == len(recipients):
            raise self._given_up(0, SMTPRecipientsRefused(refused))
        self._send_content(octets)
        last = (each for each in self._steps.ledger().rejected if each.stage is Stage.FINAL)
        return refused | results.refused(last)

    def _send_content(self, octets: bytes) -> None:
        try:
            code, text = self.data(octets)
        except SMTPDataError as error:
            raise self._given_up(error.smtp_code, error) from None
        if not is_acceptance(code):
            refused = results.refused(self._steps.ledger().rejected)
            one = len(self._steps.finals) < 2
            raise self._given_up(code, SMTPDataError(code, text) if one else SMTPRecipientsRefused(refused))

    def _given_up(self, code: int, error: _E) -> _E:
        """The error, once the transaction is over: by RSET, or by closing after 421."""
        if code == _CLOSING:
            self.close()
        else:
            self._rset()
        return error

    @one_call
    def send_message(
        self,
        msg: Message[Any, Any],
        from_addr: str | None = None,
        to_addrs: str | Sequence[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refused:
        """Send a message object by ``sendmail``; the envelope as in the standard library.

        It is written by the rules of ``SmtpConnection.send_message``: to a server
        without 8BITMIME re-encoded to 7-bit (RFC 6152), international domains
        as A-labels (RFC 5891); no field is added.

        Raises what ``sendmail`` does, and ``ValueError`` where no envelope can
        be told, or the message cannot be written.
        """
        self._begin_transaction()
        try:
            self.ehlo_or_helo_if_needed()
        except SMTPServerDisconnected as error:
            self._account_for(error, ())
            raise
        from .messages import sendmail_arguments  # seldom needed, and it reads much

        arguments = sendmail_arguments(
            (msg, from_addr, to_addrs, mail_options, rcpt_options),
            utf8=self.has_extn("smtputf8"),
            eight_bit=self.has_extn("8bitmime"),
        )
        return self.sendmail(*arguments)

    # -- logging in ---------------------------------------------------------------------

    @one_call
    def auth(self, mechanism: str, authobject: Any, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        """AUTH by a callable of the caller's (RFC 4954); its answers go in UTF-8, or are bytes.

        It is called without an argument for the initial response, and with the
        bytes of each challenge. Raises ``SMTPAuthenticationError`` for a refusal.
        """
        answered = login.in_utf8(authobject)
        return super().auth(mechanism, answered, initial_response_ok=initial_response_ok)

    def auth_cram_md5(self, challenge: Any = None) -> Any:
        """Authobject for CRAM-MD5 (RFC 2195); needs ``user`` and ``password``."""
        if challenge is None:
            return None
        return f"{self.user} {login.hmac_md5(self, challenge)}"

    @conceals
    @one_call
    def login(
        self, user: str, password: str | Provider | SaslMechanism, *, initial_response_ok: bool = True
    ) -> tuple[int, bytes]:
        """Log in by SCRAM, CRAM-MD5, PLAIN or LOGIN, the strongest first (RFC 4954).

        A provider of ``pysmtpx.oauth`` in place of the password logs in by its token,
        with OAUTHBEARER or XOAUTH2, and a ``SaslMechanism`` by itself: ``pysmtpx.Gssapi()``
        by the Kerberos ticket of ``user``, or by the one that there is where that is empty.

        ``esmtp_features["auth"]`` names those there are; after a refusal the
        next one is tried. Returns the server's reply. Where ``auth`` or an
        ``auth_<mechanism>`` is overridden, these are asked, in the order of the
        standard library.

        Raises ``SMTPHeloError``, ``SMTPAuthenticationError``, ``SMTPException``
        where there is no mechanism in common and ``SMTPNotSupportedError`` for
        a server without AUTH.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("auth"):
            raise SMTPNotSupportedError("SMTP AUTH extension not supported by server.")
        offered = self.esmtp_features["auth"]
        credentials = login.credentials_for(user, password, offered)
        if credentials is None or not initial_response_ok or self._logs_in_stepwise:
            text: Any = password
            return super().login(user, text, initial_response_ok=initial_response_ok)
        self.user, self.password = user, password  # type: ignore[assignment]
        attempts = login.Login(
            credentials,
            login.capabilities_of(offered, self.ehlo_resp),
            self._logged_in_by,
            lambda: self.sock is not None,
        )
        binding = self._driver_now().stream.binding()
        with observing.scope("auth", self._peer if observing.observers else None):
            return attempts.attempt(binding, self._host, login.port_of(self.sock))

    @property
    def _logs_in_stepwise(self) -> bool:
        return self._goes_stepwise or any(
            getattr(type(self), name) is not getattr(Conversations, name) or name in self.__dict__
            for name in _LOGIN_HOOKS
        )

    def _logged_in_by(self, flow: Flow[str]) -> Reply | None:
        try:
            self._run(flow, listen=True)
        finally:
            self._in_auth = False
        return self._heard

    # -- TLS ----------------------------------------------------------------------------

    roots: str | None = None
    """The authorities that are trusted where no context is given: as ``Server`` has it."""
    fingerprint: str | Sequence[str] | None = None
    """Of which the server's certificate must have one: as ``Server`` has it."""

    @property
    def _trust(self) -> Trust:
        return {"roots": self.roots, "fingerprint": self.fingerprint}

    @one_call
    def _start_tls(self, context: Any, certfile: str | None = None, keyfile: str | None = None) -> Any:
        """STARTTLS (RFC 3207), with a context that verifies where the caller gave none."""
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("starttls"):
            raise SMTPNotSupportedError("STARTTLS extension not supported by server.")
        if context is None and (certfile or keyfile):
            context = make_context(certfile, keyfile)
        by = tls_by(context, self._host, self._trust)
        code, text = self.docmd("STARTTLS")
        if code != 220:
            if not 400 <= code < 600 or code == _CLOSING:
                # It said yes, or it is going: who goes on in spite of the error would log in in clear.
                self.close()
            raise SMTPResponseException(code, text)
        if self._unread:
            # Whoever can write in clear could have put it there (RFC 3207 4.2).
            self.close()
            raise SMTPServerDisconnected("the server sent octets in clear behind its answer to STARTTLS")
        assert self.sock is not None
        try:
            self._restore_timeout()  # the secured one shall have it
            self.sock = secured(self.sock, by, self._deadline or self._new_deadline())
        except BaseException:
            self.close()
            raise
        self.file = None
        self._forget_server()
        return code, text

    def _forget_server(self) -> None:
        """What a server said on another line, or in clear, says nothing about this one (RFC 3207 4.2)."""
        self.helo_resp = self.ehlo_resp = self._driver = None
        self.esmtp_features = {}
        self.does_esmtp = False
