"""An application that sends into this process while it is developed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.development import mailbox


def test_mail_goes_to_a_mailbox_of_this_process(make_app: Callable[..., Flask]) -> None:
    box: Any = mailbox("flask")
    box.clear()
    mail = Mail()
    app = make_app(mail=mail, MAIL_URL="memory://flask")
    with app.app_context():
        mail.send(Message("hi", recipients=["bob@x.example"], body="text"))
    assert [message.addresses for message in box.messages] == [["bob@x.example"]]
