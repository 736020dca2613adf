"""An account, and what must never be seen of it."""

from __future__ import annotations

import base64
import pickle
import traceback
from typing import Any

USER, PASSWORD, TOKEN = "ann@x.example", "Tr0ub4dor&3-secret", "ya29.very-secret-token"
ACCOUNT: dict[str, Any] = {"username": USER, "password": PASSWORD}


def b64(octets: bytes) -> bytes:
    """Octets as AUTH has them on the wire."""
    return base64.b64encode(octets)


def shown(error: BaseException | None) -> str:
    """Everything that a log or a terminal could come to show of an error."""
    assert error is not None
    parts = [str(error), repr(error), *traceback.format_exception(error), repr(error.__dict__)]
    return "\n".join([*parts, repr(pickle.loads(pickle.dumps(error)))])


def conceals(text: str) -> None:
    """Fail where a secret stands in this text, in clear or as AUTH writes it."""
    for secret in (PASSWORD, TOKEN):
        for form in (secret.encode(), b64(secret.encode()), b64(f"\0{USER}\0{secret}".encode())):
            assert form.decode() not in text
