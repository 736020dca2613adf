"""A SASL mechanism of the caller's own: what it must be, and its place among the others."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, Protocol, cast

from ..errors import InputError
from .mechanisms import Dialogue, Mechanism, SaslLogin, Secret

_NAME: Final = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 3.1
_MEMBERS: Final = ("name", "reveals", "proves_server", "dialogue")


class SaslMechanism(Protocol):
    """A SASL mechanism of your own (RFC 4422), which ``auth=`` takes, alone or among names.

    Any object that has these four will do; nothing need be inherited. One object
    serves every log-in, and those of several threads at a time: what belongs to
    one log-in is a local variable of its dialogue. Nothing that the dialogue says
    is shown in a log, an error or a transcript.
    """

    @property
    def name(self) -> str:
        """As the server offers it: 20 of ``A`` to ``Z``, digits, hyphen and underscore at most."""

    @property
    def reveals(self) -> bool:
        """Whoever reads the line could log in by it later.

        Then it goes over TLS and local lines alone, unless ``insecure_auth`` is set.
        """

    @property
    def proves_server(self) -> bool:
        """The server proves who it is as well.

        When the server accepts, the dialogue is resumed once more, with the data
        of that reply or ``b""``. It must return then, or raise
        ``AuthenticationError`` if the proof is missing.
        """

    def dialogue(self, login: SaslLogin) -> Generator[bytes | None, bytes, None]:
        """One log-in: a generator that yields the client's answers, and is resumed with the challenges.

        Octets, without base64. The first yield is the initial response, or None
        if the server speaks first. It returns when it has nothing more to say.
        Raises ``AuthenticationError`` to give up: the exchange is cancelled.
        """


def checked(value: object) -> SaslMechanism:
    """The same object, if it is a mechanism. Raises ``InputError`` that says what it lacks."""
    if isinstance(value, type):
        raise InputError(f"auth takes a mechanism of your own as an object: {value.__name__}()")
    if missing := [member for member in _MEMBERS if not hasattr(value, member)]:
        raise InputError(f"{type(value).__name__} is no SASL mechanism: it has no {' and no '.join(missing)}")
    own = cast("SaslMechanism", value)
    if not isinstance(own.name, str) or not _NAME.fullmatch(own.name):
        raise InputError(f"not the name of a SASL mechanism (RFC 4422 3.1): {own.name!a}")
    return own


def in_the_table(own: SaslMechanism, secret: Secret) -> Mechanism:
    """Its line of the table of mechanisms; ``secret`` is what the caller gave besides."""

    def speak(mechanism: Mechanism, login: SaslLogin) -> Dialogue:
        dialogue = own.dialogue(login)
        if not isinstance(dialogue, Generator):
            raise InputError(f"{mechanism.name}: dialogue is no generator: it must yield its answers")
        return _placed(dialogue, mechanism.name)

    return Mechanism(
        own.name,
        speak,
        secret,
        reveals=bool(own.reveals),
        needs_username=False,
        proves_server=bool(own.proves_server),
        is_own=True,
    )


def _placed(dialogue: Dialogue, name: str) -> Dialogue:
    """The same, with a note of where an error comes from: its frames may hold secrets, and are not kept."""
    try:
        yield from dialogue
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            error.add_note(
                f"in the dialogue of {name}: {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            )
        raise
