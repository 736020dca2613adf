"""Plans, and a server that answers each command line with the next code."""

from __future__ import annotations

from support.drive import Run, drive
from support.fates import BODY, RCPTS

from pysmtpx.errors import (
    SmtpError,
)
from pysmtpx.flow.plan import Options, make_plan
from pysmtpx.flow.transaction import delivery
from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.reply import Reply


def caps(*lines: str) -> Capabilities:
    return Capabilities.from_reply(Reply(250, (b"mail.example", *(line.encode() for line in lines))))


PIPELINED = caps("PIPELINING", "CHUNKING", "8BITMIME")
SEQUENTIAL = caps("CHUNKING", "8BITMIME")


def plan(
    content: object = BODY,
    *,
    recipients: tuple[str, ...] = RCPTS,
    capabilities: Capabilities = PIPELINED,
    protocol: Protocol = Protocol.SMTP,
    **options: bool,
):
    mail = MailObject("s@x.example", recipients, content)  # type: ignore[arg-type]
    return make_plan(mail, capabilities, protocol=protocol, is_tls=False, options=Options(**options))


def server(*codes: int | SmtpError | bytes, lmtp: int = 1, log: list[bytes] | None = None):
    """Answer each command line with the next code; content that ends is one command."""
    answers = list(codes)
    state = {"data": False, "left": b"", "chunk": 0}

    def step() -> bytes:
        code = answers.pop(0) if answers else 250
        if isinstance(code, SmtpError):
            answers[:] = [code]
            raise code
        return code if isinstance(code, bytes) else b"%d answer\r\n" % code

    def answer(data: bytes):
        state["left"] += data
        out = b""
        try:
            while True:
                if state["data"]:
                    left = state["left"]
                    if left != b".\r\n" and not left.endswith(b"\r\n.\r\n"):
                        return out
                    state["left"], state["data"] = b"", False
                    out += b"".join(step() for _ in range(lmtp))
                    continue
                line, found, rest = state["left"].partition(b"\r\n")
                if not found:
                    return out
                if line.startswith(b"BDAT"):
                    size = int(line.split()[1])
                    if len(rest) < size:
                        return out
                    rest = rest[size:]
                state["left"] = rest
                if log is not None:
                    log.append(line)
                reply = step()
                out += reply
                state["data"] = line == b"DATA" and reply.startswith(b"354")
        except SmtpError as error:
            return out or error  # with octets out, whoever reads on finds the line gone

    return answer


def run(p, *codes, lmtp: int = 1, log: list[bytes] | None = None) -> Run:
    return drive(delivery(p), server(*codes, lmtp=lmtp, log=log))
