"""A Postfix of our own whose SASL is Cyrus's, which knows SCRAM by SHA-512 where Dovecot does not."""

from __future__ import annotations

from support import certs
from support.dovecot import USERS
from support.unpacked import UnpackedServer

from benchmarks import postfix

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")

_SETTINGS = """\
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtpd_tls_auth_only = no
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_local_domain = mail.test
smtpd_sasl_security_options = noanonymous
smtpd_error_sleep_time = 0
default_transport = discard:
relay_transport = discard:
"""
_SMTPD = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: {mechanisms}
log_level: 3
"""


class CyrusSaslServer(UnpackedServer):
    """A running Postfix: ``port`` offers STARTTLS, and AUTH before it as well."""

    programs = (postfix.MASTER,)
    tree = "sasl"
    log_name = "postfix/postfix.log"
    accounts = {user: USERS[user] for user in ("alice@mail.test", "bob@mail.test")}  # noqa: RUF012

    def write_files(self) -> None:
        """Write the configuration and make the folders of the queue."""
        chain, key = certs.server_files(self.base)
        settings = _SETTINGS.format(base=self.base, chain=chain, key=key)
        listeners = f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
        folder = self.base / "postfix"  # its etc is another one's than that of the namespace
        folder.mkdir()
        self._command = " ".join(postfix.write(folder, settings, listeners))
        (self.base / "smtpd.conf").write_text(_SMTPD.format(mechanisms=" ".join(MECHANISMS)))
        for user, password in self.accounts.items():
            (self.base / f"password-of-{user}").write_text(password, "utf-8")

    @property
    def program(self) -> str:  # type: ignore[override]
        """Its command line."""
        return self._command

    def prepare(self) -> str:
        """Put the configuration and the accounts where Cyrus SASL looks for them."""
        make = 'saslpasswd2 -p -c -u mail.test {} <"$1/password-of-{}"\n'
        lines = [make.format(user.partition("@")[0], user) for user in self.accounts]
        place = 'mkdir -p /etc/postfix/sasl && cp "$1/smtpd.conf" /etc/postfix/sasl/\n'
        return place + "".join(lines) + "chown postfix /etc/sasldb2\n"
