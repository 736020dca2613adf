"""Sending by Dramatiq: an actor on your own broker, and ``enqueue``, which hands it a message.

::

    from pysmtpx.contrib.dramatiq import enqueue, register

    send_mail = register(broker, "smtps://user:password@mail.example.org")
    enqueue(send_mail, message)
"""

from __future__ import annotations

from ...extras import needs

needs("dramatiq", "dramatiq")

from .registration import enqueue, register  # noqa: E402

__all__ = ["enqueue", "register"]
