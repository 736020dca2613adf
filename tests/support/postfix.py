"""A Postfix of our own, on six ports of loopback, delivering into Maildirs."""

from __future__ import annotations

import re

from support import certs, corpus
from support.daemon import wait_until
from support.dovecot import USERS, DovecotServer
from support.mailbox import behind_trace
from support.realserver import RealServer

from benchmarks import postfix
from pysmtpx import SmtpConnection

SIZE_LIMIT = 8_000_000
UTF8_USER = "δοκιμή@mail.test"
MAILBOXES = (*USERS, UTF8_USER, "postmaster@mail.test")

LATER = "later@mail.test"
"""RCPT: 450 4.2.0."""
BAD_SENDER = "refused@elsewhere.test"
"""MAIL: 554 5.7.1, at once."""
QUOTA_SENDER = "much@elsewhere.test"
"""MAIL: 452 4.7.1, as a policy service says it."""
DAILY_SENDER = "daily@elsewhere.test"
"""MAIL: 550 5.4.5."""
QUOTA = "quota@mail.test"
"""RCPT: 452 4.7.1."""
NO_DATA_SENDER = "nodata@elsewhere.test"
"""DATA: 554 5.7.1, with MAIL and RCPT accepted."""
BAD_SUBJECT = "refuse this content"
"""End of data: 550 5.7.1."""

_SETTINGS = """\
virtual_mailbox_domains = mail.test
virtual_mailbox_base = {base}/mail
virtual_mailbox_maps = texthash:{base}/mailboxes
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
message_size_limit = {size_limit}
smtputf8_enable = yes
local_header_rewrite_clients =
header_checks = regexp:{base}/headers
smtpd_delay_reject = no
smtpd_sender_restrictions = check_sender_access texthash:{base}/senders
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access texthash:{base}/recipients
smtpd_data_restrictions = check_sender_access texthash:{base}/data-senders
recipient_delimiter = +
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtpd_tls_auth_only = yes
smtpd_tls_CAfile = {ca}
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
smtpd_sasl_local_domain =
default_transport = error:nothing leaves this machine
relay_transport = error:nothing leaves this machine
"""

_LISTENERS = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{smtps_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
127.0.0.1:{plain_port} inet n - n - - smtpd
  -o smtpd_tls_security_level=none -o smtpd_tls_auth_only=no
  -o smtpd_discard_ehlo_keywords=pipelining,chunking,8bitmime,dsn,smtputf8
127.0.0.1:{certificate_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes -o smtpd_tls_req_ccert=yes -o smtpd_tls_auth_only=no
127.0.0.1:{strict_port} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
127.0.0.1:{ticketless_port} inet n - n - - smtpd
  -o tls_ssl_options=NO_TICKET
"""


class PostfixServer(RealServer):
    """A running Postfix.

    ``port`` offers STARTTLS and, after it, AUTH; ``smtps_port`` is implicit TLS; ``plain_port`` has neither
    TLS nor PIPELINING, CHUNKING, 8BITMIME, DSN or SMTPUTF8, and AUTH in clear; ``certificate_port`` is
    implicit TLS and demands a client's certificate from the same authority; ``strict_port`` takes no mail
    before STARTTLS; ``ticketless_port`` is as the first, and nobody resumes a TLS session there.
    """

    programs = (postfix.MASTER, "/usr/lib/postfix/sbin/virtual")
    count = 6
    log_name = "postfix.log"
    undelivered = ("queue/maildrop/*", "queue/incoming/*", "queue/active/*")
    users = USERS

    def __init__(self, dovecot: DovecotServer) -> None:
        self._auth_path = dovecot.auth_path
        self.ca = certs.authority()
        super().__init__()

    def command(self) -> list[str]:
        """Return what runs Postfix in the foreground."""
        return self._command

    def write_files(self) -> None:
        """Write the configuration and make the folders of the queue."""
        self.smtps_port, self.plain_port, self.certificate_port, *last = self.ports[1:]
        self.strict_port, self.ticketless_port = last
        base = self.base
        chain, key = certs.server_files(base)
        self.ca.cert_pem.write_to_path(base / "ca.pem")
        nobody = (base / "mail").stat()
        values = {
            "base": base,
            "uid": nobody.st_uid,
            "gid": nobody.st_gid,
            "size_limit": SIZE_LIMIT,
            "key": key,
            "chain": chain,
            "ca": base / "ca.pem",
            "auth": self._auth_path,
        }
        self._command = postfix.write(base, _SETTINGS.format(**values), _LISTENERS.format(**vars(self)))
        (base / "mailboxes").write_text("".join(f"{user} {user}/\n" for user in MAILBOXES), "utf-8")
        (base / "headers").write_text(f"/^Subject: {BAD_SUBJECT}/ REJECT\n")
        (base / "senders").write_text(
            f"{BAD_SENDER} REJECT\n{QUOTA_SENDER} 452 4.7.1 you send too much\n"
            f"{DAILY_SENDER} 550 5.4.5 daily sending limit exceeded\n"
        )
        (base / "data-senders").write_text(f"{NO_DATA_SENDER} REJECT\n")
        (base / "recipients").write_text(f"{LATER} 450 4.2.0 come back later\n{QUOTA} 452 4.7.1 over quota\n")

    def empty(self) -> None:
        """Remove every message of every user; the log begins anew, once every session has ended."""
        wait_until(self._is_idle, 30.0, "the end of every session")
        super().empty()

    def session(self) -> str:
        """Wait for the end of a session and return what the log says of the latest: its count of commands."""
        pattern = r"disconnect from .*"
        wait_until(lambda: re.search(pattern, self.log_text()) is not None, 30.0, "the end of a session")
        return str(re.findall(pattern, self.log_text())[-1])

    def commands(self) -> dict[str, str]:
        """Wait for the end of a session and return its count of each command, "accepted/tried"."""
        return dict(re.findall(r" (\w+)=([\d/]+)", self.session()))

    def _is_idle(self) -> bool:
        log = self._daemon.log_text()
        return log.count("]: connect from") == log.count("]: disconnect from")


def is_usable(connection: SmtpConnection, postfix: PostfixServer) -> bool:
    """Send another mail, which must arrive alone and whole."""
    content = corpus.SEVEN_BIT["plain"]
    connection.send("sender@elsewhere.test", ["bob@mail.test"], content)
    (stored,) = postfix.mailbox("bob@mail.test").take()
    return behind_trace(stored) == content
