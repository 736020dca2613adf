"""pysmtpx: a synchronous SMTP and LMTP client that tells the truth about your mail.

::

    import pysmtpx

    with pysmtpx.connect("smtps://user:password@mail.example.org") as smtp:
        result = smtp.send_message(message)
    for refused in result.rejected_recipients:
        print(refused.recipient, refused.reply)
"""

from .connecting import connect
from .connection import SmtpConnection
from .errors import (
    AllRecipientsFailed,
    AuthenticationError,
    CommandRejected,
    ConnectError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    MechanismUnavailable,
    MessageTooLarge,
    NotSupportedError,
    ProtocolError,
    RecipientsRejected,
    RejectedError,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    TlsError,
    UsageError,
)
from .outcome import Outcome
from .sending import SendOptions
from .server import Server
from .wire.address import ForwardPath, ReversePath
from .wire.capabilities import Capabilities, Protocol
from .wire.envelope import MailObject
from .wire.limits import Stage
from .wire.params import DeliverBy, MailFromParams, RcptToParams
from .wire.reply import EnhancedCode, Reply
from .wire.result import RejectedRecipient, SendResult

__version__ = "0.1.0"

__all__ = [
    "AllRecipientsFailed",
    "AuthenticationError",
    "Capabilities",
    "CommandRejected",
    "ConnectError",
    "ConnectionLost",
    "DataRejected",
    "DeliverBy",
    "DeliveryUnknown",
    "EnhancedCode",
    "ForwardPath",
    "InputError",
    "MailFromParams",
    "MailObject",
    "MechanismUnavailable",
    "MessageTooLarge",
    "NotSupportedError",
    "Outcome",
    "Protocol",
    "ProtocolError",
    "RcptToParams",
    "RecipientsRejected",
    "RejectedError",
    "RejectedRecipient",
    "Reply",
    "ReversePath",
    "SendOptions",
    "SendResult",
    "SenderRejected",
    "Server",
    "ServiceUnavailable",
    "SmtpConnection",
    "SmtpError",
    "Stage",
    "Timeout",
    "TlsError",
    "UsageError",
    "connect",
]
