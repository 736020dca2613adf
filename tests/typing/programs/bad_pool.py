"""What people get wrong about pools and messages."""

from __future__ import annotations

from email.message import EmailMessage

import pysmtpx
from pysmtpx import MailFromParams, RcptToParams, SmtpPool

SmtpPool("mail.example.org", max_conections=2)  # wrong: call-arg, reportCallIssue
SmtpPool("mail.example.org", retry=3)  # wrong: arg-type, reportArgumentType
SmtpPool("mail.example.org", balance="random")  # wrong: arg-type, reportArgumentType
pysmtpx.Route("mail.example.org", wieght=3)  # wrong: call-arg, reportCallIssue
pysmtpx.Route("mail.example.org", rate="fast")  # wrong: arg-type, reportArgumentType
pysmtpx.RetryPolicy(move_on="always")  # wrong: arg-type, reportArgumentType
SmtpPool("mail.example.org", timeout=3)  # wrong: call-arg, reportCallIssue
SmtpPool("mail.example.org", pasword="secret")  # wrong: call-arg, reportCallIssue
SmtpPool("mail.example.org", on_event=print, tls="ssl")  # wrong: arg-type, reportArgumentType

message = EmailMessage()
pool = SmtpPool("mail.example.org")
smtp = pysmtpx.connect("mail.example.org")

pool.send("ann@example.org", ["bob@example.org"], "text")  # wrong: arg-type, reportArgumentType
pool.send("ann@example.org", [1], b"")  # wrong: list-item, reportArgumentType
pool.send("ann@example.org", "bob@example.org", b"", tiemout=1)  # wrong: call-arg, reportCallIssue
smtp.send("ann@example.org", "bob@example.org", b"", tiemout=1)  # wrong: call-arg, reportCallIssue
smtp.send("ann@example.org", "bob@example.org", b"", mail_param=None)  # wrong: call-arg, reportCallIssue
pool.send_message(message, recipient="bob@example.org")  # wrong: call-arg, reportCallIssue
smtp.send_message(message, recipient="bob@example.org")  # wrong: call-arg, reportCallIssue
smtp.send_message(message, rcpt_params=MailFromParams())  # wrong: arg-type, reportArgumentType
pool.submit(message, mail_params=RcptToParams())  # wrong: arg-type, reportArgumentType
pool.submit(b"Subject: Hi\r\n\r\n")  # wrong: arg-type, reportArgumentType
pool.send_many([message], orderd=True)  # wrong: call-arg, reportCallIssue
smtp.send_many([message], from_addr="ann@example.org")  # wrong: call-arg, reportCallIssue
smtp.send_many(message)  # wrong: arg-type, reportArgumentType
pool.connection(2)  # wrong: call-arg, reportCallIssue
accepted: list[str] = pool.submit(message).result()  # wrong: assignment, reportAssignmentType
