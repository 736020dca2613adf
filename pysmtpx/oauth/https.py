"""One request to a provider of tokens: over verified TLS, bounded in octets and in time, never redirected.

``msal`` and ``google-auth`` are given it in place of a library of their own, so
that all providers have the same limits, and one set of roots.
"""

from __future__ import annotations

import datetime
import http.client
import io
import socket
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import CredentialsUnavailable, InputError, SmtpError, TlsError
from ..net.bridge import bridged
from ..net.deadline import Deadline
from ..net.dial import dial
from ..net.tls import Tls, default_context, handshake
from ..shortening import shortened

MAX_BODY: Final = 256 * 1024
"""Octets of an answer; a token of Microsoft's has a few thousand."""
_BUSY: Final = (408, 425, 429)
"""Ask again later."""
_SHOWN: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
"""Of proxies, by their scheme."""


class Answer(NamedTuple):
    """What came, whatever its status below 500."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    host: str


def checked_url(what: str, url: object) -> str:
    """The URL of a provider. Raises ``InputError`` unless it is one over TLS, without a user in it."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"{what} is the text of a URL")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InputError(f"{what} is no URL that can be read") from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
        raise InputError(f"{what} begins with https:// and a host (RFC 6749 3.2), and has no user in it")
    return url


def request(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    deadline: Deadline,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Ask, and return the answer.

    Raises ``CredentialsUnavailable``: for now where nothing came of it or the
    answer says so (429, 5xx), with the seconds of its Retry-After; for good where
    it is a redirection, since what was sent is for this host alone (RFC 9700 4.11),
    or too large.
    """
    parts = urlsplit(checked_url("the provider's URL", url))
    host = shortened(parts.hostname or "", 80)
    given = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
    try:
        answer = _asked(method, parts, body, {**(headers or {}), **given}, deadline, context)
    except TlsError as error:
        raise _insecure(host, error) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CredentialsUnavailable(f"no answer from {host}: {_why(error)}", temporary=True) from None
    return _judged(answer)


def _insecure(host: str, error: TlsError) -> CredentialsUnavailable:
    refused = error.__cause__
    if isinstance(refused, ssl.SSLCertVerificationError):
        return CredentialsUnavailable(f"the certificate of {host} was refused: {refused.verify_message}")
    return CredentialsUnavailable(f"no answer from {host}: {_why(error)}", temporary=True)


def _judged(answer: Answer) -> Answer:
    host, status = answer.host, answer.status
    if len(answer.body) > MAX_BODY:
        raise CredentialsUnavailable(f"the answer of {host} is larger than {MAX_BODY} octets")
    if 300 <= status < 400:
        raise CredentialsUnavailable(f"{host} redirects ({status}), which is not followed with a secret")
    if status in _BUSY or status >= 500:
        raise CredentialsUnavailable(
            f"{host} cannot answer just now (HTTP {status})",
            temporary=True,
            retry_after=_seconds(answer.headers.get("Retry-After")),
        )
    return answer


def _why(error: Exception) -> str:
    """Of what a server said nothing more than that it is malformed."""
    if isinstance(error, TimeoutError):
        return "it did not come in time"
    if isinstance(error, SmtpError):  # of ours: a dial, or TLS
        return ascii(error.args[0])[1:-1][:_SHOWN]
    if isinstance(error, OSError):
        return ascii(error.strerror or getattr(error, "reason", "") or type(error).__name__)[1:-1][:_SHOWN]
    return f"it is malformed ({type(error).__name__})"


def _seconds(text: str | None) -> float | None:
    """Retry-After, as seconds or as a date (RFC 9110 10.2.3)."""
    if not text or len(text) > 40:
        return None
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
        return max(0.0, (at - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


# The connection.


def _asked(
    method: str,
    parts: SplitResult,
    body: bytes | None,
    headers: Mapping[str, str],
    deadline: Deadline,
    context: ssl.SSLContext | None,
) -> Answer:
    connection = _Connection(parts, deadline, context or default_context())
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        told = {name.title(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read(MAX_BODY + 1), parts.hostname or "")
    finally:
        connection.end()


class _Connection(http.client.HTTPSConnection):
    """Through the proxy of the environment where there is one; each step within the one deadline."""

    _tunnel: Callable[[], None]

    def __init__(self, parts: SplitResult, deadline: Deadline, context: ssl.SSLContext) -> None:
        host, port = parts.hostname or "", parts.port or 443
        proxy = _proxy_for(host)
        self._deadline = deadline
        self._proxy = proxy
        self._tls = Tls(context, host)
        self._real: socket.socket | None = None
        super().__init__(
            proxy.hostname or "" if proxy else host,
            (proxy.port or _PORTS[proxy.scheme]) if proxy else port,
            context=context,
        )
        if proxy:
            self.set_tunnel(host, port, _proxy_headers(proxy))

    def connect(self) -> None:
        """Dial, ask the proxy if there is one, and shake hands."""
        sock = self._real = dial(self.host, self.port, self._deadline)
        if self._proxy is not None:
            if self._proxy.scheme == "https":
                sock = self._real = bridged(
                    handshake(sock, Tls(default_context(), self.host), self._deadline)
                )
            self.sock = _Timed(sock, self._deadline)
            self._tunnel()
        self._real = handshake(sock, self._tls, self._deadline)
        self.sock = _Timed(self._real, self._deadline)

    def end(self) -> None:
        """Close."""
        self.close()
        if self._real is not None:
            self._real.close()


class _Timed:
    """A socket, as far as ``http.client`` uses it: no wait is longer than what is left of the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, octets: bytes) -> None:
        """Write all of it."""
        view = memoryview(octets)
        while view:
            self._limit()
            view = view[self._sock.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """To read from."""
        return io.BufferedReader(_Reader(self))

    def receive_into(self, buffer: Any) -> int:
        """Read some."""
        self._limit()
        return self._sock.recv_into(buffer)

    def _limit(self) -> None:
        left = self._deadline.remaining()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def close(self) -> None:
        """Not yet: the answer is read after ``http.client`` has closed its end."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: _Timed) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._sock.receive_into(buffer)


def _proxy_for(host: str) -> SplitResult | None:
    """The proxy that the environment names for https, as for other programs."""
    proxy = urllib.request.getproxies().get("https")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in _PORTS:
        # Its password would go in clear, and by another protocol, to who does not speak that.
        raise CredentialsUnavailable("the environment's proxy for https is none of http or https")
    return parts


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    account = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(account.encode()).decode()}"}
