"""The doctor: looks at one server step by step, and says what is wrong and what would cure it."""

from ..wire.certificate import Certificate
from .doctor import check
from .report import AddressCheck, Check, EnvelopeCheck, Finding, TlsCheck

__all__ = ["AddressCheck", "Certificate", "Check", "EnvelopeCheck", "Finding", "TlsCheck", "check"]
