"""pysmtpx: a synchronous SMTP and LMTP client that tells the truth about your mail.

::

    import pysmtpx

    with pysmtpx.connect("smtps://user:password@mail.example.org") as smtp:
        result = smtp.send_message(message)
    for refused in result.rejected_recipients:
        print(refused.recipient, refused.reply)
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .composing import compose
    from .connecting import connect
    from .connection import SmtpConnection
    from .errors import (
        AllRecipientsFailed,
        AuthenticationError,
        CommandRejected,
        ConnectError,
        ConnectionLost,
        CredentialsUnavailable,
        DataRejected,
        DeliveryUnknown,
        InputError,
        MechanismUnavailable,
        MessageTooLarge,
        NotSupportedError,
        ProtocolError,
        ProxyError,
        RecipientsRejected,
        RecipientsWithheld,
        RejectedError,
        SenderRejected,
        ServiceUnavailable,
        SessionLimitReached,
        SmtpError,
        Timeout,
        TlsError,
        UsageError,
    )
    from .observing import Event
    from .options import MessageOptions, SendOptions, ServerOptions, TransactionOptions
    from .outcome import Outcome
    from .pool import SmtpPool
    from .pooling.arguments import PoolOptions, PoolStats, ServerStats
    from .retry import RetryPolicy
    from .route import Route
    from .sasl.gssapi import Gssapi
    from .sasl.mechanisms import SaslLogin
    from .sasl.own import SaslMechanism
    from .server import Server
    from .wire.address import ForwardPath, ReversePath
    from .wire.capabilities import Capabilities, Protocol
    from .wire.envelope import MailObject
    from .wire.limits import Stage
    from .wire.params import DeliverBy, MailFromParams, RcptToParams
    from .wire.reply import EnhancedCode, Reply
    from .wire.result import RejectedRecipient, SendResult

logging.getLogger(__name__).addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "AllRecipientsFailed",
    "AuthenticationError",
    "Capabilities",
    "CommandRejected",
    "ConnectError",
    "ConnectionLost",
    "CredentialsUnavailable",
    "DataRejected",
    "DeliverBy",
    "DeliveryUnknown",
    "EnhancedCode",
    "Event",
    "ForwardPath",
    "Gssapi",
    "InputError",
    "MailFromParams",
    "MailObject",
    "MechanismUnavailable",
    "MessageOptions",
    "MessageTooLarge",
    "NotSupportedError",
    "Outcome",
    "PoolOptions",
    "PoolStats",
    "Protocol",
    "ProtocolError",
    "ProxyError",
    "RcptToParams",
    "RecipientsRejected",
    "RecipientsWithheld",
    "RejectedError",
    "RejectedRecipient",
    "Reply",
    "RetryPolicy",
    "ReversePath",
    "Route",
    "SaslLogin",
    "SaslMechanism",
    "SendOptions",
    "SendResult",
    "SenderRejected",
    "Server",
    "ServerOptions",
    "ServerStats",
    "ServiceUnavailable",
    "SessionLimitReached",
    "SmtpConnection",
    "SmtpError",
    "SmtpPool",
    "Stage",
    "Timeout",
    "TlsError",
    "TransactionOptions",
    "UsageError",
    "compose",
    "connect",
]

_HOMES: Final = {
    "Capabilities": "wire.capabilities",
    "DeliverBy": "wire.params",
    "EnhancedCode": "wire.reply",
    "Event": "observing",
    "ForwardPath": "wire.address",
    "Gssapi": "sasl.gssapi",
    "MailFromParams": "wire.params",
    "MailObject": "wire.envelope",
    "MessageOptions": "options",
    "Outcome": "outcome",
    "PoolOptions": "pooling.arguments",
    "PoolStats": "pooling.arguments",
    "Protocol": "wire.capabilities",
    "RcptToParams": "wire.params",
    "RejectedRecipient": "wire.result",
    "Reply": "wire.reply",
    "RetryPolicy": "retry",
    "ReversePath": "wire.address",
    "Route": "route",
    "SaslLogin": "sasl.mechanisms",
    "SaslMechanism": "sasl.own",
    "SendOptions": "options",
    "SendResult": "wire.result",
    "Server": "server",
    "ServerOptions": "options",
    "ServerStats": "pooling.arguments",
    "SmtpConnection": "connection",
    "SmtpPool": "pool",
    "Stage": "wire.limits",
    "TransactionOptions": "options",
    "compose": "composing",
    "connect": "connecting",
}
"""Where each name lives that is no error. It is loaded when it is first asked for (PEP 562): a process that
may never send mail does not pay for `email`, `ssl` and the rest of it."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
