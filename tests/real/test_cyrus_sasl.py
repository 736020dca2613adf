"""AUTH against a real Cyrus SASL, by way of a real Postfix: SCRAM by SHA-512 above all."""

from __future__ import annotations

from typing import Any

import pytest
from support import certs, corpus
from support.cyrus_sasl import MECHANISMS, CyrusSaslServer
from support.daemon import wait_until
from support.realserver import on

import pysmtpx
from pysmtpx import Server
from pysmtpx.smtplib import SMTP

ALICE = "alice@mail.test"
PASSWORD = CyrusSaslServer.accounts[ALICE]

pytestmark = on(CyrusSaslServer)


def described(server: CyrusSaslServer, tls: str = "starttls", **options: Any) -> Server:
    if tls != "none":
        options["ssl_context"] = certs.client_context()
    return Server(server.host, server.port, tls=tls, **{"username": ALICE, "password": PASSWORD, **options})  # type: ignore[arg-type]


def proves(server: CyrusSaslServer, mechanism: str) -> None:
    said = f"sasl_method={mechanism}, sasl_username={ALICE}"
    wait_until(lambda: said in server.log_text(), 30, said)


@pytest.mark.parametrize("tls", ["starttls", "none"])
@pytest.mark.parametrize("mechanism", [*MECHANISMS, None])
def test_a_password(server: CyrusSaslServer, tls: str, mechanism: str | None) -> None:
    with pysmtpx.connect(described(server, tls, auth=mechanism)) as connection:
        connection.send("sender@elsewhere.test", ["bob@x.test"], corpus.SEVEN_BIT["plain"])
    proves(server, mechanism or "SCRAM-SHA-512")


@pytest.mark.parametrize("account", [{"password": "wrong"}, {"username": "nobody@mail.test"}])
def test_a_wrong_account(server: CyrusSaslServer, account: dict[str, str]) -> None:
    """FAULTS 80, 86: refused once, and nothing weaker is tried."""
    with pytest.raises(pysmtpx.AuthenticationError) as caught:
        pysmtpx.connect(described(server, **account))
    assert caught.value.reply.code == 535
    wait_until(lambda: "disconnect from" in server.log_text(), 30, "the end of the session")
    assert "auth=0/1" in server.log_text()


def test_the_face_of_smtplib(server: CyrusSaslServer) -> None:
    with SMTP(server.host, server.port) as smtp:
        smtp.starttls(context=certs.client_context())
        assert smtp.login(ALICE, PASSWORD)[0] == 235
        smtp.sendmail("sender@elsewhere.test", ["bob@x.test"], corpus.SEVEN_BIT["plain"])
    proves(server, "SCRAM-SHA-512")


def test_check_names_the_mechanism_and_logs_in_by_it(server: CyrusSaslServer) -> None:
    seen = described(server).check()
    assert (seen.mechanism, seen.logged_in) == ("SCRAM-SHA-512", True)
