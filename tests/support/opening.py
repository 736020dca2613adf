"""A whole opening of a session as one flow."""

from __future__ import annotations

from pysmtpx.flow.effects import Flow
from pysmtpx.flow.session import Opening, begin_session, log_in
from pysmtpx.wire.capabilities import Capabilities


def open_session(opening: Opening) -> Flow[Capabilities]:
    """From the greeting to a session that is ready for MAIL."""
    begun = yield from begin_session(opening)
    yield from log_in(opening, begun)
    return begun.capabilities
