"""A Flask application that sends mail from a view.

It starts an embedded server, asks the application for three pages, and prints
what became of each message. Run it with ``python examples/flask_app.py``.
"""

from __future__ import annotations

import smtplib

from flask import Flask

from pysmtpx.contrib.flask import Mail, Message
from pysmtpx.testing import MailServer

mail = Mail()


def create_app(host: str, port: int) -> Flask:
    """The application; a real one reads its settings from a file or the environment."""
    app = Flask(__name__)
    app.config.update(
        MAIL_SERVER=host,
        MAIL_PORT=port,
        MAIL_USERNAME="robot",
        MAIL_PASSWORD="correct horse",
        MAIL_DEFAULT_SENDER=("Robot", "robot@example.org"),
        MAIL_TIMEOUT=30,
    )
    mail.init_app(app)
    app.add_url_rule("/invite/<addresses>", view_func=invite, methods=["POST"])
    return app


def invite(addresses: str) -> tuple[str, int]:
    """A view: send, and tell whom the message did not reach."""
    message = Message("Welcome", recipients=addresses.split("+"), body="Come in.", html="<p>Come in.</p>")
    message.attach("map.txt", "text/plain", "Left, then left again.")
    try:
        mail.send(message)
    except smtplib.SMTPException as error:
        return f"not sent: {error}", 502
    assert message.send_result is not None
    refused = [f"{each.recipient} ({each.reply})" for each in message.send_result.rejected_recipients]
    return f"sent to {', '.join(message.send_result.accepted_recipients)}; refused: {refused or 'none'}", 200


def main() -> None:
    """Ask for pages, and look at what the server has."""
    refuse = {"nobody@example.com": "550 5.1.1 no such user"}
    with MailServer(refuse=refuse, users={"robot": "correct horse"}, require_auth=True) as server:
        client = create_app(server.host, server.port).test_client()
        for addresses in ("ann@example.com", "bob@example.com+nobody@example.com", "nobody@example.com"):
            response = client.post(f"/invite/{addresses}")
            print(response.status_code, response.text)
        print(f"{len(server.messages)} messages arrived over {len(server.ledger.connections)} connection")
        assert [each.delivered for each in server.messages] == [["ann@example.com"], ["bob@example.com"]]


if __name__ == "__main__":
    main()
