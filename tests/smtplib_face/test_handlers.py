"""Whatever ``except`` clause catches an error of ``smtplib`` catches that of the module in its place."""

from __future__ import annotations

import smtplib as standard
from functools import partial
from types import ModuleType

import pytest
from support import handlers

import pysmtpx.smtplib as ours


def send(module: ModuleType, case: handlers.Case, port: int) -> None:
    kind = module.SMTP_SSL if case.tls == "implicit" else module.SMTP
    with kind(case.name, port, timeout=case.timeout) as smtp:
        if case.tls == "starttls":
            smtp.starttls()
        if case.password:
            smtp.login(handlers.USER, case.password)
        smtp.sendmail("me@x.example", list(case.to), f"Subject: {case.subject}\n\n{case.body}")


NOT_READ = {f"{answer} at {stage}" for answer in ("garbage", "a long line") for stage in handlers.STAGES[3:]}
"""An answer that nobody can read ends the session: ``SMTPServerDisconnected``, whatever the command was."""
IN_DOUBT = {"334 at FINAL"}
CLOSED = {"421 at AUTH"}
"""An ``SMTPAuthenticationError``, which the standard one is where a single mechanism is offered."""
TAKEN = {"a line end in a field", "a line end in an address"}
"""By the standard one as well."""


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, case in handlers.CASES.items()
        if not case.verified and name not in NOT_READ | IN_DOUBT | CLOSED | TAKEN
    ],
)
def test_what_catches_the_standard_ones_catches_ours(name: str) -> None:
    case = handlers.CASES[name]
    errors = []
    for module in (standard, ours):
        with handlers.served(case) as server:
            errors.append(handlers.outcome(partial(send, module, case, handlers.port_of(case, server))))
    handlers.check(*errors)
