"""A Flask application that sends mail."""

from __future__ import annotations

from flask import Flask

from pysmtpx.contrib.flask import Attachment, Mail, Message

app = Flask("app")
app.config["MAIL_URL"] = "smtps://mail.example.org"
mail = Mail()
mail.init_app(app)


@app.route("/")
def view() -> str:
    message = Message(
        "Hello",
        recipients=["ann@example.org", ("Bob", "bob@example.org")],
        sender=("Shop", "shop@example.org"),
        html="<p>Hi.</p>",
        attachments=[Attachment("a.txt", data="text")],
        rcpt_options=["NOTIFY=FAILURE"],
    )
    message.attach("b.bin", "application/octet-stream", b"1")
    mail.send(message)
    mail.send_message("Hello", ["ann@example.org"], body="Hi.")
    with mail.connect() as connection, mail.record_messages() as outbox:
        connection.send_message(subject="Hello", recipients=["ann@example.org"])
    result = message.send_result
    return str(len(outbox)) if result is None else ", ".join(map(str, result.accepted_recipients))
