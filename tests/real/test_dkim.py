"""What a real Postfix delivers verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import corpus, opendkim
from support.mailbox import behind_trace
from support.postfix import PostfixServer

import pysmtpx
from pysmtpx import Server
from pysmtpx.dkim import Signer

SENDER, ALICE = "alice@mail.test", "alice@mail.test"


@pytest.mark.parametrize("bdat", [False, True])
def test_signatures_survive_postfix(postfix: PostfixServer, tmp_path: Path, bdat: bool) -> None:
    records = opendkim.make_keys(tmp_path)
    signers = [Signer("mail.test", name, key_file=tmp_path / f"{name}.pem") for name in records]
    with pysmtpx.connect(Server(postfix.host, postfix.port, before_send=signers)) as smtp:
        for content in corpus.ALL.values():
            send = smtp.send_bdat if bdat else smtp.send
            send(SENDER, ALICE, content)
            (stored,) = postfix.mailbox(ALICE).take()
            assert behind_trace(stored).endswith(corpus.arrives_as(content))
            said = opendkim.verdicts(behind_trace(stored), records, "mail.test", tmp_path)
            assert said == {"rsa": "pass", "ed": "pass"}
