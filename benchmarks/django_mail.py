"""Django's ``send_mail()`` as views call it, at a distance, with TLS and AUTH: our backend and its own."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import trustme

from .contestants import LINE, RECIPIENT, SENDER, timed
from .report import Goal, Report, against, rates_table
from .rounds import OURS, Contestant, interleave
from .secured import FAR, PASSWORD, USER
from .servers import blind_sink, delayed, round_trip
from .sink import smtp_sink

DJANGO = "Django's own backend"
_PATHS = {OURS: "pysmtpx.contrib.django.EmailBackend", DJANGO: "django.core.mail.backends.smtp.EmailBackend"}
_BODY = LINE.decode() * 14
"""About a kilobyte."""


@contextlib.contextmanager
def _trusted(authority: trustme.CA) -> Iterator[None]:
    """Both backends look for their roots where this variable says."""
    before = os.environ.get("SSL_CERT_FILE")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ca.pem")
        authority.cert_pem.write_to_path(path)
        os.environ["SSL_CERT_FILE"] = path
        try:
            yield
        finally:
            del os.environ["SSL_CERT_FILE"]
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before


def _configure(port: int) -> None:
    """A project that has both backends; the settings that Django calls for in its version."""
    import django
    from django.conf import settings

    if settings.configured:
        return
    common = {"SECRET_KEY": "none", "DEFAULT_FROM_EMAIL": SENDER, "USE_TZ": True}
    options = {"host": "127.0.0.1", "port": port, "use_tls": True, "username": USER, "password": PASSWORD}
    if django.VERSION >= (6, 1):
        mailers = {name: {"BACKEND": path, "OPTIONS": options} for name, path in _PATHS.items()}
        settings.configure(**common, MAILERS=mailers)
    else:
        names = {"username": "EMAIL_HOST_USER", "password": "EMAIL_HOST_PASSWORD"}
        mail = {names.get(name, f"EMAIL_{name.upper()}"): value for name, value in options.items()}
        settings.configure(**common, **mail)
    django.setup()


def _connection(name: str) -> Any:
    """A new backend, as Django makes one for each ``send_mail()``."""
    from django.core import mail

    if hasattr(mail, "mailers"):
        return mail.mailers[name]
    return mail.get_connection(_PATHS[name])


def _send_one(name: str) -> None:
    from django.core import mail

    if hasattr(mail, "mailers"):
        sent = mail.send_mail("measured", _BODY, None, [RECIPIENT], using=name)
    else:
        sent = mail.send_mail("measured", _BODY, None, [RECIPIENT], connection=_connection(name))
    if sent != 1:
        raise SystemExit(f"{name} sent {sent} messages, not 1")


def _send_all(name: str, count: int) -> None:
    from django.core import mail

    mails = [mail.EmailMessage("measured", _BODY, None, [RECIPIENT]) for _ in range(count)]
    if (sent := _connection(name).send_messages(mails)) != count:
        raise SystemExit(f"{name} sent {sent} messages, not {count}")


def _cold(run: Callable[[], float]) -> float:
    """As in a process that has not sent yet."""
    from pysmtpx.contrib.pools import close_pools

    close_pools()
    return run()


def send_mail(rounds: int = 3, calls: int = 200, fewer: int = 20) -> Report:
    """200 calls one after another, the first connection included; then 50 messages in one call."""
    authority = trustme.CA()
    with (
        blind_sink(authority) as near,
        delayed(near, FAR) as port,
        _trusted(authority),
        warnings.catch_warnings(),
    ):
        trip = round_trip(port)
        _configure(port)
        single: dict[str, Contestant] = {
            OURS: lambda count: _cold(lambda: timed(lambda: _send_one(OURS), count)),
            DJANGO: lambda count: timed(lambda: _send_one(DJANGO), min(count, fewer)),
        }
        one = interleave(single, rounds, fixed=calls)
        batch: dict[str, Contestant] = {
            OURS: lambda count: _cold(lambda: count * timed(lambda: _send_all(OURS, count), 1)),
            DJANGO: lambda count: count * timed(lambda: _send_all(DJANGO, count), 1),
        }
        many = interleave(batch, rounds, fixed=50)
        _cold(lambda: 0.0)
    report = Report(f"Django at a distance, TLS and AUTH, a round trip of {trip * 1000:.1f} ms")
    report.parts.append(
        f"`send_mail()`, {calls} calls one after another, from a cold pool; {DJANGO} opens a connection "
        f"for each, and is measured with {fewer} calls a round:\n\n{rates_table('calls/s', one, digits=1)}"
    )
    table = rates_table("messages/s", many, digits=1)
    report.parts.append(f"50 messages in one `send_messages()`, from a cold pool:\n\n{table}")
    report.goals.append(Goal("`send_mail()`, 20 ms, TLS and AUTH", 4, against(one, DJANGO)))
    return report


def processor_time(rounds: int = 9) -> Report:
    """Text and HTML, one call at a time, in clear to a sink near by."""
    from django.utils.module_loading import import_string

    report = Report("Django near by, text and HTML, processor time of the client, smtp-sink")
    with smtp_sink() as port, warnings.catch_warnings():
        _configure(port)
        backends = {
            name: import_string(path)(host="127.0.0.1", port=port, username="", password="", use_tls=False)
            for name, path in _PATHS.items()
        }
        for backend in backends.values():
            backend.open()
        runners: dict[str, Contestant] = {
            name: partial(_spent, partial(_send_html, backend)) for name, backend in backends.items()
        }
        measured = interleave(runners, rounds, seconds=0.4, probe=50)
        for backend in backends.values():
            backend.close()
        _cold(lambda: 0.0)
    report.parts.append(
        f"Both have a connection open, as {DJANGO} has within `with mail.get_connection()`:\n\n"
        + rates_table("messages a second of processor time", measured)
    )
    times = against(measured, DJANGO)
    report.goals.append(
        Goal("`send_mail()`, text and HTML: processor time", 0.9, times and 1 / times, at_most=True)
    )
    return report


def _send_html(backend: Any) -> None:
    from django.core import mail

    html = f"<p>{_BODY}</p>"
    message = mail.EmailMultiAlternatives("measured", _BODY, None, [RECIPIENT], connection=backend)
    message.attach_alternative(html, "text/html")
    if message.send() != 1:
        raise SystemExit("a message was not sent")


def _spent(send: Callable[[], None], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        send()
    return count / (time.process_time() - start)
