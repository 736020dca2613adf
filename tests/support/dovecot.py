"""A Dovecot of our own: LMTP over TCP and a UNIX socket, and the SASL back end for Postfix."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

from support import certs
from support.daemon import wait_until
from support.realserver import RealServer

USERS = {
    "alice@mail.test": "p@ss wörd: 1=2",
    "bob@mail.test": "bob's secret",
    "carol@mail.test": "x" * 200,
    "full@mail.test": "no room",
}
FULL = "full@mail.test"
"""Its mailbox holds 1 KiB: LMTP refuses larger mail after the content."""
_TOKEN_KEY = b"the key that signs the tokens of the tests"

_CONFIG = """\
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/dovecot.log
auth_verbose = yes
protocols = lmtp
listen = 127.0.0.1
{tls}
hostname = mail.test
mail_location = maildir:{base}/mail/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
mail_fsync = never
mail_plugins = quota
plugin {{
  quota = count:User quota
  quota_vsizes = yes
}}
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 xoauth2 oauthbearer
auth_failure_delay = 0
auth_username_chars =
auth_cache_size = 0
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = scheme=plain username_format=%u {base}/users
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {base}/oauth2.conf
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {base}/users
}}
service lmtp {{
  inet_listener lmtp {{
    port = {port}
  }}
  unix_listener {base}/lmtp.sock {{
    mode = 0666
  }}
}}
# A listener of mode 0 is none: no penalty that grows with each refused password.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {base}/auth.sock {{
    mode = 0666
  }}
}}
"""

_OAUTH2 = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={base}/keys/
username_attribute = sub
"""


class DovecotServer(RealServer):
    """A running Dovecot: ``host``, ``port`` (LMTP), ``socket_path`` (LMTP), ``auth_path`` (SASL)."""

    programs = ("/usr/sbin/dovecot", "/usr/lib/dovecot/lmtp")
    log_name = "dovecot.log"
    users = USERS

    @property
    def socket_path(self) -> Path:
        """The UNIX socket of LMTP."""
        return self.base / "lmtp.sock"

    @property
    def auth_path(self) -> Path:
        """The UNIX socket of SASL."""
        return self.base / "auth.sock"

    def command(self) -> list[str]:
        """Return what runs Dovecot in the foreground."""
        return [self.programs[0], "-F", "-c", str(self.base / "dovecot.conf")]

    def wait_until_up(self) -> None:
        """Return once the port answers and SASL's socket is there."""
        super().wait_until_up()
        wait_until(self.auth_path.exists, 60.0, "the socket for SASL")

    def tls_settings(self) -> str:
        """Return what it says of TLS."""
        return "ssl = no"

    def write_files(self) -> None:
        """Write the configuration, the users and the key of the tokens."""
        for folder in ("run", "state", "keys/default/HS256"):
            (self.base / folder).mkdir(parents=True)
        values = {"base": self.base, "port": self.port}
        (self.base / "dovecot.conf").write_text(_CONFIG.format(tls=self.tls_settings(), **values))
        (self.base / "oauth2.conf").write_text(_OAUTH2.format(base=self.base))
        (self.base / "keys/default/HS256/default").write_bytes(base64.b64encode(_TOKEN_KEY))
        (self.base / "users").write_text("".join(map(_passwd_line, USERS)), "utf-8")


class TlsDovecotServer(DovecotServer):
    """The same with STARTTLS for LMTP, and tickets."""

    def tls_settings(self) -> str:
        """Return how."""
        chain, key = certs.server_files(self.base)
        return f"ssl = yes\nssl_cert = <{chain}\nssl_key = <{key}\nverbose_ssl = yes\nmail_debug = yes"


def _passwd_line(user: str) -> str:
    # The colon separates fields, so passwords with one are written encoded.
    password = "{PLAIN.b64}" + base64.b64encode(USERS[user].encode()).decode()
    quota = "userdb_quota_rule=*:bytes=1K" if user == FULL else ""
    return f"{user}:{password}::::::{quota}\n"


def token(user: str, *, lifetime: float = 3600.0) -> str:
    """Return a signed token (JWT, HS256) of the user's; with a negative lifetime it has expired."""
    claims = {"sub": user, "iat": int(time.time()) - 60, "exp": int(time.time() + lifetime)}
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{_base64url(hmac.digest(_TOKEN_KEY, signed.encode(), hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
