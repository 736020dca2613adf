"""The program that ``aiosmtpd_server`` runs, with SMTP_PORT LMTP_PORT MAIL."""

from __future__ import annotations

import asyncio
import itertools
import sys
from functools import partial
from pathlib import Path
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP

SIZE_LIMIT = 8_000_000
_numbers = itertools.count()


class _Handler:
    """Refuses what the other servers of the tests refuse, and writes one file a recipient into Maildirs."""

    def __init__(self, mail: Path) -> None:
        self._mail = mail

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address == "refused@elsewhere.test":
            return "554 5.7.1 refused"
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        user = address.partition("@")[0].partition("+")[0]
        if user == "later":
            return "450 4.2.0 come back later"
        if user not in ("alice", "bob"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if b"refuse this content" in envelope.content:
            return "550 5.7.1 refused"
        for address in envelope.rcpt_tos:
            folder = self._mail / f"{address.partition('@')[0].partition('+')[0]}@mail.test" / "new"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(next(_numbers))).write_bytes(envelope.content.replace(b"\r\n", b"\n"))
        return "250 2.0.0 OK"


async def _serve(smtp_port: int, lmtp_port: int, mail: Path) -> None:
    loop, handler = asyncio.get_running_loop(), _Handler(mail)
    for kind, port in ((SMTP, smtp_port), (LMTP, lmtp_port)):
        make = partial(kind, handler, hostname="mail.test", data_size_limit=SIZE_LIMIT, enable_SMTPUTF8=True)
        await loop.create_server(make, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
