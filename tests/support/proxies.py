"""Real proxies of Debian's: each knows the name ``mail.test``, which nobody else here does."""

from __future__ import annotations

import subprocess
from typing import ClassVar

from support import certs
from support.realserver import RealServer

BLOCKED = "blocked.test"
"""A host that tinyproxy refuses by its rules."""
BLOCKED_PORT = 9
"""A port that Dante refuses by its rules."""
USER, PASSWORD = "ann", "s3cr3t-Proxy"


class ProxyServer(RealServer):
    """A proxy with a name service of its own: the file of hosts is another one in its namespace."""

    program: ClassVar[str]
    """Its command line in the shell, in which $1 is ``base``."""
    schemes: ClassVar[tuple[str, ...]]
    account = ""

    def command(self) -> list[str]:
        """Return what runs the proxy in its namespace."""
        (self.base / "hosts").write_text(f"127.0.0.1 localhost mail.test {BLOCKED}\n")
        enter = f'mount --make-rprivate / && mount --bind "$1/hosts" /etc/hosts && exec {self.program}'
        enter = enter.replace("PORT", str(self.port)).replace("BEHIND", str(self.ports[-1]))
        return ["unshare", "--mount", "sh", "-c", enter, "proxy", str(self.base)]

    def url(self, scheme: str = "", account: str | None = None) -> str:
        """Return the URL of the proxy; with its account, or another one."""
        who = self.account if account is None else account
        return f"{scheme or self.schemes[0]}://{who and who + '@'}127.0.0.1:{self.port}"


class MicrosocksServer(ProxyServer):
    """SOCKS5 with user and password."""

    programs = ("/usr/bin/microsocks",)
    program = f"microsocks -i 127.0.0.1 -p PORT -u {USER} -P {PASSWORD}"
    schemes = ("socks5",)
    account = f"{USER}:{PASSWORD}"


_DANTE = """\
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks block {{ from: 127.0.0.0/8 to: 0.0.0.0/0 port = {blocked} }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""


class DanteServer(ProxyServer):
    """SOCKS5 for everybody, with rules; its SOCKS4 knows no names."""

    programs = ("/usr/sbin/danted",)
    program = 'danted -f "$1/conf"'
    schemes = ("socks5",)

    def write_files(self) -> None:
        """Write the configuration."""
        (self.base / "conf").write_text(_DANTE.format(port=self.port, blocked=BLOCKED_PORT))


_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {base}/host
AuthorizedKeysFile {base}/user.pub
StrictModes no
UsePAM no
PidFile none
"""


class SshServer(ProxyServer):
    """SOCKS4a and SOCKS5 of ``ssh -D``, which looks names up where its sshd is.

    It grants a connection before it knows whether there will be one.
    """

    programs = ("/usr/sbin/sshd", "/usr/bin/ssh")
    program = (
        'sh -c \'mkdir -p /run/sshd; /usr/sbin/sshd -D -e -f "$0/conf" & exec ssh -F none -N'
        ' -D 127.0.0.1:PORT -p BEHIND -i "$0/user" -o ConnectionAttempts=30 -o StrictHostKeyChecking=no'
        ' -o UserKnownHostsFile=/dev/null root@127.0.0.1\' "$1"'
    )
    schemes = ("socks4a", "socks5")
    count = 2

    def write_files(self) -> None:
        """Write the configuration and the keys of both sides."""
        (self.base / "conf").write_text(_SSHD.format(port=self.ports[1], base=self.base))
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.base / name], check=True
            )


_TINYPROXY = """\
Port {port}
Listen 127.0.0.1
Timeout 600
Allow 127.0.0.1
BasicAuth {user} {password}
Filter "{base}/filter"
"""


class TinyproxyServer(ProxyServer):
    """HTTP CONNECT with Basic credentials, and a list of hosts that are not allowed."""

    programs = ("/usr/bin/tinyproxy",)
    program = 'tinyproxy -d -c "$1/conf"'
    schemes = ("http",)
    account = f"{USER}:{PASSWORD}"

    def write_files(self) -> None:
        """Write the configuration."""
        values = {"port": self.port, "user": USER, "password": PASSWORD, "base": self.base}
        (self.base / "conf").write_text(_TINYPROXY.format(**values))
        (self.base / "filter").write_text(f"{BLOCKED}\n")


_STUNNEL = """\
foreground = yes
pid =
debug = info
[proxy]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {chain}
key = {key}
"""


class TlsProxyServer(TinyproxyServer):
    """The same behind TLS, by stunnel, which listens at ``port``; tinyproxy itself is at the second one."""

    programs = ("/usr/bin/tinyproxy", "/usr/bin/stunnel4")
    program = 'sh -c \'tinyproxy -d -c "$0/conf" & exec stunnel4 "$0/stunnel"\' "$1"'
    schemes = ("https",)
    count = 2

    def write_files(self) -> None:
        """Write the configuration of both."""
        port, behind = self.ports
        self.port = behind
        super().write_files()
        self.port = port
        chain, key = certs.server_files(self.base)
        values = {"port": port, "behind": behind, "chain": chain, "key": key}
        (self.base / "stunnel").write_text(_STUNNEL.format(**values))
