"""One message by each way that there is to send it: for those who watch from outside."""

from __future__ import annotations

import contextlib

from pysmtpx import MailObject, RetryPolicy, SmtpError, SmtpPool, connect


def send_by(way: str, url: str, recipients: list[str], *, sender: str, content: bytes) -> None:
    """Send it by ``connection``, ``send_many``, ``pool``, ``submit`` or many of a pool; fail silently."""
    mail = MailObject(sender, recipients, content)
    with contextlib.suppress(SmtpError):
        if way in ("connection", "send_many"):
            with connect(url) as smtp:
                if way == "connection":
                    smtp.send(sender, recipients, content)
                else:
                    list(smtp.send_many([mail]))
            return
        with SmtpPool(url, retry=RetryPolicy(backoff=0.001, temporary=True)) as pool:
            if way == "pool":
                pool.send(sender, recipients, content)
            elif way == "submit":
                pool.submit(mail).result(60)
            else:
                list(pool.send_many([mail]))
