"""A Kerberos realm of our own: a KDC of MIT's on a port of loopback, principals, keytabs and tickets.

Its programs are unpacked and run from there; nothing is installed, and no root is needed for it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.daemon import Daemon, free_ports, require_files
from support.dovecot import DovecotServer
from support.unpacked import TREES

REALM = "MAIL.TEST"
PASSWORD = "ann's own password"
HOSTS = ("mail.test", "localhost")

_TREE = TREES / "krb5"
_SBIN, _BIN = _TREE / "usr/sbin", _TREE / "usr/bin"

# dns_canonicalize_hostname and rdns are at the library's defaults: the client must do without DNS by itself.
_KRB5_CONF = """\
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  ignore_acceptor_hostname = true
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
  }}
"""
_KDC_CONF = """\
[kdcdefaults]
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
  {realm} = {{
    database_name = {base}/principal
    key_stash_file = {base}/stash
    acl_file = {base}/acl
    max_life = 1h
    supported_enctypes = aes256-cts-hmac-sha1-96:normal
  }}
[dbmodules]
  db_module_dir = {plugins}
[logging]
  kdc = FILE:{base}/kdc.log
"""


def required() -> None:
    """Skip where the KDC or the package is missing; fail where CI is set."""
    require_files(str(_TREE / ".complete"))
    try:
        import gssapi  # noqa: F401
    except ImportError:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("gssapi is not installed (scripts/servers does it), and CI demands it")
        pytest.skip(
            "gssapi is not installed: scripts/servers does it for .venv, since PyPI has no wheel of it"
        )


class Realm:
    """A running KDC; its principals are ``ann``, ``robot`` (``client_keytab``) and servers (``keytab``)."""

    def __init__(self) -> None:
        required()
        self.base = Path(tempfile.mkdtemp(prefix="kerberos-"))
        self.base.chmod(0o755)
        (self.port,) = free_ports(1)
        (plugins,) = _TREE.glob("usr/lib/*/krb5/plugins/kdb")
        values = {"realm": REALM, "port": self.port, "base": self.base, "plugins": plugins}
        self.config = self.base / "krb5.conf"
        self.config.write_text(_KRB5_CONF.format(**values))
        (self.base / "kdc.conf").write_text(_KDC_CONF.format(**values))
        self.keytab, self.client_keytab = self.base / "keytab", self.base / "client.keytab"
        self._run(str(_SBIN / "kdb5_util"), "create", "-s", "-r", REALM, "-P", "master")
        self._make_principals()
        self.environment = {
            "KRB5_CONFIG": str(self.config),
            "KRB5CCNAME": f"FILE:{self.base}/cache",
            "KRB5RCACHENAME": "none:",
        }
        command = ["env", *self._settings(), str(_SBIN / "krb5kdc"), "-n", "-r", REALM]
        self._daemon = Daemon(command, self.base, self.base / "kdc.out")
        try:
            self._daemon.wait_for_port(self.port)
            self.kinit()
        except BaseException:
            self.stop()
            raise

    def _settings(self) -> list[str]:
        return [f"KRB5_CONFIG={self.config}", f"KRB5_KDC_PROFILE={self.base}/kdc.conf"]

    def _run(self, *command: str, said: str = "") -> None:
        subprocess.run(
            ["env", *self._settings(), *command], input=said, text=True, check=True, capture_output=True
        )

    def _make_principals(self) -> None:
        lines = [
            f'addprinc -pw "{PASSWORD}" ann',
            "addprinc -randkey robot",
            f"ktadd -k {self.client_keytab} robot",
        ]
        for host in HOSTS:
            lines += [f"addprinc -randkey smtp/{host}", f"ktadd -k {self.keytab} smtp/{host}"]
        lines.append("addprinc -randkey smtp/rekeyed.test")  # no server has its key
        self._run(str(_SBIN / "kadmin.local"), "-r", REALM, said="\n".join(lines) + "\n")
        self.keytab.chmod(0o644)  # Dovecot's process is another user's

    def kinit(self, *options: str, cache: str = "cache") -> str:
        """Get a ticket for ann into a cache of this name, and return the cache's."""
        name = f"FILE:{self.base}/{cache}"
        self._run(str(_BIN / "kinit"), *options, "-c", name, "ann", said=f"{PASSWORD}\n")
        return name

    def log_text(self) -> str:
        """What the KDC has logged."""
        return (self.base / "kdc.log").read_text()

    def stop(self) -> None:
        """End the KDC and remove its files."""
        self._daemon.stop()


class KerberosDovecot(DovecotServer):
    """A Dovecot whose SASL knows GSSAPI."""

    programs = (*DovecotServer.programs, "/usr/lib/dovecot/modules/auth/libmech_gssapi.so")

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        super().__init__()

    def write_files(self) -> None:
        """Write the configuration, with GSSAPI behind the others."""
        super().write_files()
        with (self.base / "dovecot.conf").open("a") as config:
            config.write(
                "auth_mechanisms = plain gssapi\n"
                'auth_gssapi_hostname = "$ALL"\n'
                f"auth_krb5_keytab = {self._realm.keytab}\n"
                "passdb {\n  driver = static\n  mechanisms = gssapi\n  args = nopassword=y\n}\n"
                f"import_environment = KRB5_CONFIG={self._realm.config} KRB5RCACHENAME=none:\n"
            )
