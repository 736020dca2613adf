"""What people get wrong about the Django backends."""

from __future__ import annotations

from pysmtpx.contrib.django import CeleryEmailBackend, EmailBackend, servers
from pysmtpx.contrib.django.options import BackendOptions

EmailBackend(max_conections=2)  # wrong: call-arg, reportCallIssue
EmailBackend(host="mail.example.org", tls="starttls")  # wrong: call-arg, reportCallIssue
EmailBackend(rate="5")  # wrong: arg-type, reportArgumentType
CeleryEmailBackend(tsk="shop.send")  # wrong: call-arg, reportCallIssue
servers(1)  # wrong: arg-type, reportArgumentType
PYSMTPX: BackendOptions = {"max_conections": 2}  # wrong: typeddict-unknown-key, reportAssignmentType
