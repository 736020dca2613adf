"""From a template and a row to a message: by ``str.format``, or by Jinja2 where it is asked for."""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import threading
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any, TypeAlias

from ..composing import compose
from ..errors import InputError
from ..extras import needs
from .compose import attachments_of, html_of, text_of, with_headers
from .recipients import Row

_Render: TypeAlias = Callable[[Mapping[str, Any]], str]


class Template:
    """The message of a bulk run. Raises ``InputError`` for a template that cannot be read."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        if not arguments.sender:
            raise InputError("no author was given: --from ann@example.org")
        make = _jinja if arguments.jinja else _format
        text = text_of(arguments)
        markup = html_of(arguments)
        self._sender: str = arguments.sender
        self._attached = attachments_of(arguments)
        self._subject = make(arguments.subject, False)
        self._to = make(arguments.to, False)
        self._text = make(text, False)
        self._html = None if markup is None else make(markup, True)
        self._headers = [make(header, False) for header in arguments.header]
        # Jinja2's own caches are safe; that of a template that sets a global is not.
        self._lock = threading.Lock()
        parts = [
            arguments.sender,
            arguments.subject,
            arguments.to,
            text,
            markup,
            arguments.header,
            arguments.jinja,
        ]
        digest = hashlib.sha256(json.dumps(parts).encode())
        for name, content in self._attached:
            digest.update(name.encode() + b"\0" + content)
        self.digest = digest.hexdigest()
        """The same for the same message to everybody."""

    def message(self, row: Row) -> EmailMessage:
        """The message for one row. Raises ``InputError``, which names the column that is missing."""
        values = dict(row.values)
        with self._lock:
            to = self._to(values) if row.address else ""
            subject, text = self._subject(values), self._text(values)
            markup = None if self._html is None else self._html(values)
            headers = [header(values) for header in self._headers]
        return compose(
            from_=self._sender,
            to=to or row.address,
            subject=subject,
            text=text,
            html=markup,
            attachments=self._attached,
            **with_headers(headers),
        )


def _format(source: str, is_html: bool) -> _Render:
    def render(values: Mapping[str, Any]) -> str:
        shown = {key: html.escape(str(value)) for key, value in values.items()} if is_html else values
        try:
            return source.format_map(shown)
        except KeyError as error:
            raise InputError(f"the row has no column {error}") from error
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise InputError(f"the template cannot be filled in: {error}; a brace itself is {{{{") from error

    return render


def _jinja(source: str, is_html: bool) -> _Render:
    needs("cli", "jinja2")
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=is_html)
        template = environment.from_string(source)
    except TemplateError as error:
        raise InputError(f"the template cannot be read: {error}") from error

    def render(values: Mapping[str, Any]) -> str:
        try:
            return template.render(values)
        except TemplateError as error:
            raise InputError(f"the template cannot be filled in: {error}") from error

    return render
