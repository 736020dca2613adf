"""What people get wrong about servers and connections."""

from __future__ import annotations

import pysmtpx
from pysmtpx import Server

pysmtpx.connect("mail.example.org", timeout=3)  # wrong: call-arg, reportCallIssue
pysmtpx.connect("mail.example.org", conect_timeout=3)  # wrong: call-arg, reportCallIssue
pysmtpx.connect("mail.example.org", connect_timeout="3")  # wrong: arg-type, reportArgumentType
pysmtpx.connect("mail.example.org", "25")  # wrong: arg-type, reportArgumentType
pysmtpx.connect("mail.example.org", tls=True)  # wrong: arg-type, reportArgumentType
pysmtpx.connect("mail.example.org", tls="start_tls")  # wrong: arg-type, reportArgumentType
pysmtpx.connect("mail.example.org", max_connections=2)  # wrong: call-arg, reportCallIssue
pysmtpx.connect(b"mail.example.org")  # wrong: arg-type, reportArgumentType
Server("mail.example.org", user="ann")  # wrong: call-arg, reportCallIssue
Server("mail.example.org", password=b"secret")  # wrong: arg-type, reportArgumentType
Server("mail.example.org", auth=object())  # wrong: arg-type, reportArgumentType
Server("mail.example.org", 25, "smtp")  # wrong: call-arg, reportCallIssue
Server.from_url("smtp://mail.example.org", pasword="secret")  # wrong: call-arg, reportCallIssue
Server("mail.example.org").replace(hots="mx")  # wrong: call-arg, reportCallIssue
options = pysmtpx.ServerOptions(tsl="none")  # wrong: typeddict-unknown-key, reportCallIssue
