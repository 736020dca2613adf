"""An Exim of our own: PIPELINING, CHUNKING, and a limit on the messages of a connection."""

from __future__ import annotations

from support import certs
from support.unpacked import UnpackedServer

LIMIT = 20
"""Messages of a connection to the second port, then 421."""

_CONFIG = """\
exim_path = /usr/sbin/exim4
primary_hostname = mail.test
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
write_rejectlog = false
pid_file_path = {base}/pid
keep_environment =
daemon_smtp_ports = {ports}
local_interfaces = 127.0.0.1
local_from_check = false
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = ${{if eq{{$received_port}}{{{limited}}}{{{limit}}}{{10000}}}}
pipelining_advertise_hosts = *
chunking_advertise_hosts = *
rfc1413_query_timeout = 0s
host_lookup =
tls_advertise_hosts ={tls}
message_size_limit = 8000000
begin acl
mail:
  deny senders = refused@elsewhere.test
       message = 5.7.1 refused
  accept
rcpt:
  defer local_parts = later
        message = 4.2.0 come back later
  accept domains = mail.test
         local_parts = ^(alice|bob)([+]|\\$)
  deny message = 5.1.1 no such user
data:
  deny condition = ${{if match{{$h_subject:}}{{refuse this content}}}}
       message = 5.7.1 refused
  accept
begin routers
local:
  driver = accept
  domains = mail.test
  local_parts = lsearch;{base}/users
  local_part_suffix = +*
  local_part_suffix_optional
  transport = maildir
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {base}/mail/$local_part_data@mail.test
  user = nobody
  group = nogroup
"""


class EximServer(UnpackedServer):
    """A running Exim; ``limited_port`` takes so many messages a connection as ``LIMIT`` says."""

    tree = "exim"
    program = "exim4 -bdf -q1h"
    users = {"Debian-exim": 871}  # noqa: RUF012
    count = 2
    log_name = "log/mainlog"
    undelivered = ("spool/input/*",)

    @property
    def limited_port(self) -> int:
        """The port with the limit."""
        return self.ports[1]

    def write_files(self) -> None:
        """Write the configuration."""
        (self.base / "log").mkdir()
        ports = ":".join(map(str, self.ports))
        values = {"base": self.base, "ports": ports, "limited": self.limited_port, "limit": LIMIT}
        (self.base / "exim.conf").write_text(_CONFIG.format(tls=self.tls_settings(), **values))
        (self.base / "users").write_text("".join(f"{name}: {name}\n" for name in ("alice", "bob", "later")))

    def tls_settings(self) -> str:
        """Return whom TLS is offered to, and how."""
        return ""

    def prepare(self) -> str:
        """Exim gives up its privileges where the configuration is elsewhere."""
        return (
            'mkdir -p /etc/exim4 "$1/spool" && cp "$1/exim.conf" /etc/exim4/exim4.conf\n'
            'chown -R Debian-exim:Debian-exim "$1/spool" "$1/log"\n'
        )


class TlsEximServer(EximServer):
    """The same with STARTTLS, by GnuTLS; it hands out no ticket."""

    def tls_settings(self) -> str:
        """Return whom TLS is offered to, and the certificate."""
        chain, key = certs.server_files(self.base)
        for each in (chain, key):
            each.chmod(0o644)
        return f" *\ntls_certificate = {chain}\ntls_privatekey = {key}"


class ResumingEximServer(TlsEximServer):
    """The same, and it hands out tickets."""

    def tls_settings(self) -> str:
        """Return the same, and who may resume."""
        return super().tls_settings() + "\ntls_resumption_hosts = *"
