"""What people get wrong about the Flask face."""

from __future__ import annotations

from flask import Flask

from pysmtpx.contrib.flask import Attachment, Mail, Message

mail = Mail("app")  # wrong: arg-type, reportArgumentType
mail = Mail(Flask("app"))
mail.send("Hello")  # wrong: arg-type, reportArgumentType
mail.send_message("Hello", recipient=["ann@example.org"])  # wrong: call-arg, reportCallIssue
mail.send_message("Hello", recipients="ann@example.org")  # wrong: arg-type, reportArgumentType
with mail.connect() as connection:
    connection.send_message(subjekt="Hello")  # wrong: call-arg, reportCallIssue
Message("Hello", to=["ann@example.org"])  # wrong: call-arg, reportCallIssue
Attachment("a.txt", data=1)  # wrong: arg-type, reportArgumentType
