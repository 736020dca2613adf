"""What to do about an error: from what is known of it to one or two sentences for whoever reads it.

Nothing but texts, and the one place for them. What of others is quoted in them is shortened. They name
the options of Python; ``worded`` says the same to whoever sets them elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from shlex import quote
from typing import Final, Literal, TypeAlias

from .shortening import shortened, shown
from .wire.reply import Reply

_SHOWN: Final = 80
_NAMES: Final = 5
_SLIP: Final = 0.85
"""How alike names are where one is a slip: ``MAIL_PROT`` is (0.89), ``MAIL_SENDER`` may be meant (0.82)."""
_SAME: Final = {
    "timeout": "connect_timeout",
    "user": "username",
    "login": "username",
    "passwd": "password",
    "secret": "password",
    "context": "ssl_context",
    "tls_context": "ssl_context",
    "certfile": "client_certificate",
    "keyfile": "client_certificate",
    "client_cert": "client_certificate",
    "ssl_certfile": "client_certificate",
    "ssl_keyfile": "client_certificate",
    "ssl": "tls",
    "use_ssl": "tls",
    "use_tls": "tls",
    "start_tls": "tls",
    "starttls": "tls",
    "validate_certs": "roots",
    "verify": "roots",
    "cafile": "roots",
    "ca_file": "roots",
    "ca_certs": "roots",
    "tls_fingerprint": "fingerprint",
    "hostname": "host",
    "server": "host",
    "helo": "local_hostname",
    "ehlo": "local_hostname",
    "access_token": "token",
    "oauth_token": "token",
    "oauth": "token",
    "pool_size": "max_connections",
    "size": "max_connections",
    "retries": "retry",
}
"""What other libraries call the same, or something that is to be said otherwise here."""


Face: TypeAlias = Literal["command", "flask", "django", "mailers"]
"""Where options are set, other than in Python: by the command, and in the settings of Flask and Django."""

_WORDINGS: Final[dict[str, tuple[str, str, str, str]]] = {
    'tls="implicit"': (
        "--tls implicit",
        "MAIL_USE_SSL = True",
        "EMAIL_USE_SSL = True",
        '"use_ssl": True',
    ),
    'tls="starttls"': (
        "--tls starttls",
        "MAIL_USE_TLS = True",
        "EMAIL_USE_TLS = True",
        '"use_tls": True',
    ),
    'tls="starttls" in place of "none"': (
        "--tls starttls in place of none",
        "MAIL_USE_TLS = True",
        "EMAIL_USE_TLS = True",
        '"use_tls": True',
    ),
    'tls="starttls" or "implicit"': (
        "--tls starttls or implicit",
        "MAIL_USE_TLS = True or MAIL_USE_SSL = True",
        "EMAIL_USE_TLS = True or EMAIL_USE_SSL = True",
        '"use_tls": True or "use_ssl": True',
    ),
    'tls="none" (?tls=none in a URL)': (
        "--tls none (?tls=none in the URL)",
        "MAIL_USE_TLS = False",
        "EMAIL_USE_TLS = False",
        '"use_tls": False',
    ),
    "465 (smtps://)": (
        "465 (smtps://)",
        "465 (MAIL_USE_SSL = True)",
        "465 (EMAIL_USE_SSL = True)",
        '465 ("use_ssl": True)',
    ),
    "port 465 with smtps://": (
        "port 465 with smtps://",
        "port 465 with MAIL_USE_SSL = True",
        "port 465 with EMAIL_USE_SSL = True",
        'port 465 with "use_ssl": True',
    ),
    'leave out tls="none"': (
        "leave out --tls none",
        "set MAIL_USE_TLS = True",
        "set EMAIL_USE_TLS = True",
        'set "use_tls": True',
    ),
    'roots="authority.pem"': (
        "--ca-file authority.pem",
        'MAIL_ROOTS = "authority.pem"',
        'PYSMTPX = {"roots": "authority.pem"}',
        '"roots": "authority.pem"',
    ),
    'roots="system" takes the operating system\'s': (
        "?roots=system in the URL takes the operating system's",
        'MAIL_ROOTS = "system" takes the operating system\'s',
        'PYSMTPX = {"roots": "system"} takes the operating system\'s',
        '"roots": "system" takes the operating system\'s',
    ),
    "client_certificate=(file, key_file)": (
        "--client-certificate FILE --client-key FILE",
        'MAIL_POOL = {"client_certificate": (file, key_file)}',
        "EMAIL_SSL_CERTFILE and EMAIL_SSL_KEYFILE",
        '"ssl_certfile" and "ssl_keyfile"',
    ),
    "server_hostname=…": (
        "--server-hostname NAME",
        'MAIL_POOL = {"server_hostname": …}',
        'PYSMTPX = {"server_hostname": …}',
        '"server_hostname": …',
    ),
    "insecure_auth=True": (
        "--insecure-auth",
        "MAIL_INSECURE_AUTH = True",
        'PYSMTPX = {"insecure_auth": True}',
        '"insecure_auth": True',
    ),
    "Leave auth out": (
        "Leave --auth out",
        "Leave auth out of MAIL_POOL",
        "Leave auth out of PYSMTPX",
        'Leave "auth" out',
    ),
    "token=…": (
        "--token-file FILE",
        "MAIL_TOKEN",
        'PYSMTPX = {"token": …}',
        '"token": …',
    ),
    "username and password (or token)": (
        "--username, with the password at the prompt or by --password-file (or --token-file)",
        "MAIL_USERNAME and MAIL_PASSWORD (or MAIL_TOKEN)",
        "EMAIL_HOST_USER and EMAIL_HOST_PASSWORD (or a token in PYSMTPX)",
        '"username" and "password" (or "token")',
    ),
    "RetryPolicy(temporary=True), or later": (
        "send it again then",
        'MAIL_RETRY = {"temporary": True}, or later',
        'PYSMTPX = {"retry": {"temporary": True}}, or later',
        '"retry": {"temporary": True}, or later',
    ),
    'give a list, as in ["a@example.org", "b@example.org"]': (
        "give the option once for each",
        *('give a list, as in ["a@example.org", "b@example.org"]',) * 3,
    ),
    "Keep connections (SmtpPool), and allow for it in connect_timeout": (
        "Allow for it in --connect-timeout",
        "Allow for it in MAIL_CONNECT_TIMEOUT",
        'Allow for it in PYSMTPX = {"connect_timeout": …}',
        'Allow for it in "connect_timeout"',
    ),
}
"""What stands for an option of Python in each ``Face``, in their order."""
_FACES: Final[tuple[Face, ...]] = ("command", "flask", "django", "mailers")
_USE_A_URL: Final = ("Use smtp://", "Use smtps://")


def worded(text: str, face: Face) -> str:
    """A text of this module with the options as that face calls them."""
    column = _FACES.index(face)
    if face in ("django", "mailers") and text.startswith(_USE_A_URL):  # they take none
        text = f"Use {text.partition(', or ')[2]}"
    for phrase in sorted(_WORDINGS, key=len, reverse=True):  # a longer one may hold a shorter one
        text = text.replace(phrase, _WORDINGS[phrase][column])
    return text


def some(texts: Sequence[str], most: int) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(shortened(text, _SHOWN) for text in texts[:most]) + more


# -- the line ----------------------------------------------------------------------


def look_up() -> str:
    """The host's name has no address."""
    return "Check the spelling of the name, and that this machine's DNS works (try another name)."


def dial(port: int, whys: Iterable[str], *, is_path: bool = False) -> str:
    """Nothing answers; ``whys`` are the system's reasons, one for each address."""
    if is_path:
        return "Check that the server runs, and that you may open its socket."
    if any("refused" in why.lower() for why in whys):
        return f"Nothing listens on port {port}: check the port (587, 465, 25) and that the server runs."
    if port == 25:
        return "Many networks block port 25 on its way out: use 587 or 465 of your mail provider."
    return "A firewall on the way may swallow it: try another port (587 or 465) or another network."


def dialled() -> str:
    """A function of the caller's brings no connection."""
    return "Look at what the function dial does, and whether what it goes by runs."


def proxy_unreachable() -> str:
    """Nothing answers at the proxy's place."""
    return "Check the host and port of proxy=…, and that the proxy runs."


def proxy_refused(*, is_login: bool) -> str:
    """The proxy wants nothing to do with us, or with the server's port."""
    if is_login:
        return "Check the user in proxy=… and proxy_password=…"
    return (
        "Ask who runs the proxy to allow this host and port: many allow 443 alone, and port 25 is seldom"
        " among others (try 587 or 465)."
    )


def proxy_target() -> str:
    """The proxy is there, and does not get to the server."""
    return (
        "Check host and port of the server: the proxy looks the name up, and connects from where it stands."
    )


def proxy_tls() -> str:
    """An https proxy whose TLS fails."""
    return "Its certificate is checked against roots=…; a proxy without TLS of its own is http://."


def no_proxy() -> str:
    """What answers there is no such proxy."""
    return "Check the scheme of proxy=… (socks5, socks4a, http, https) and its port."


def tls_first(host: str, port: int) -> str:
    """The port waits for a ClientHello, and was waited at for a greeting."""
    url = "" if host.startswith("/") else f"smtps://{_place(host, port)}, or "
    return f'Use {url}tls="implicit".'


def clear_first(host: str, port: int) -> str:
    """The port greets in clear, and was sent a ClientHello."""
    url = "" if host.startswith("/") else f"smtp://{_place(host, port)}, or "
    return f'Use {url}tls="starttls".'


def no_mail_server(port: int) -> str:
    """What answers speaks something else."""
    return f"Port {port} seems to be for something else: mail servers have 587, 465 and 25."


def no_starttls(port: int) -> str:
    """STARTTLS is required and not offered."""
    other = "587" if port == 465 else "465 (smtps://)" if port == 587 else "465 (smtps://) or 587"
    return f'Try port {other}. Only on a line that nobody can listen to: tls="none" (?tls=none in a URL).'


def _place(host: str, port: int) -> str:
    host = shortened(host, _SHOWN)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- TLS -----------------------------------------------------------------------------


def expired() -> str:
    """The server's certificate is no longer valid, or not yet."""
    return (
        "Whoever runs the server must renew it (with certbot: look why its timer does not run);"
        " check the clock of this machine too."
    )


def wrong_name(names: Sequence[str]) -> str:
    """The server's certificate is for these names, and not for the one that was dialled."""
    told = some(names, _NAMES)
    one_of = f"a name that it is for as host ({told})" if told else "the name that it is for as host"
    return f"Use {one_of}, or server_hostname=… if you know that this is the server."


def untrusted() -> str:
    """The server's certificate comes from an authority that is not among the roots."""
    return (
        "If you trust its authority: SSL_CERT_FILE=authority.pem in the environment, or"
        ' roots="authority.pem"; roots="system" takes the operating system\'s.'
    )


def other_fingerprint(expected: Sequence[str]) -> str:
    """The server's certificate has none of these fingerprints."""
    return (
        f"If it was renewed, ask whoever runs the server for the fingerprint of the new one, and give that in"
        f" place of {some(expected, _NAMES)}; else somebody may be in between: send nothing."
    )


def client_certificate(*, is_given: bool, look: str = "") -> str:
    """The server demands a certificate of ours, or does not take the one that it was given.

    ``look`` is a command that tells whose it takes, where that is not known.
    """
    if is_given:
        text = "Ask who runs the server which authority it must come from, and whether it has run out."
    else:
        text = "Give yours: client_certificate=(file, key_file), in PEM."
    return f'{text} "Acceptable client certificate CA names" of this tells whose: {look}' if look else text


def openssl(host: str, port: int, *, starttls: Literal["", "smtp", "lmtp"] = "") -> str:
    """The command that shows how TLS begins at a server."""
    where = f"-unix {quote(host)}" if host.startswith("/") else f"-connect {quote(_place(host, port))}"
    return f"openssl s_client {where}{f' -starttls {starttls}' if starttls else ''} </dev/null"


def handshake(why: str) -> str:
    """The handshake failed for a reason of OpenSSL's."""
    upper = why.upper()
    if "WRONG_VERSION_NUMBER" in upper or "HTTP_REQUEST" in upper:
        return "What came is not TLS: this port seems to begin in clear, or to be for something else."
    if "EOF" in upper:
        return "The server hung up: it may be busy, refuse this address, or speak no TLS on this port."
    if "VERSION" in upper or "PROTOCOL" in upper or "HANDSHAKE_FAILURE" in upper:
        return "The server's TLS may be too old, or share no cipher with ours: at least TLS 1.2 is needed."
    return ""


# -- who we are ------------------------------------------------------------------------


def no_auth(*, starttls: bool) -> str:
    """A log-in was asked for, and AUTH is not offered; whether ``starttls`` is, and was not used."""
    if starttls:
        return 'AUTH is likely offered only after STARTTLS here: use tls="starttls" (it is off or failed).'
    return "This port takes no log-in: use port 587 or 465, or leave user name and password out."


def exposed() -> str:
    """A reusable secret would go over a line in clear."""
    return (
        'Use TLS: tls="starttls" or "implicit". Only on a line that nobody can listen to: insecure_auth=True.'
    )


def no_mechanism() -> str:
    """None of the mechanisms that are offered can be used with what was given."""
    return (
        "Leave auth out, or name one that is offered; where only OAUTHBEARER or XOAUTH2 is, a token"
        " takes the password's place."
    )


def no_binding() -> str:
    """What binds to the TLS channel is wanted alone, and there is nothing that both ends can bind to."""
    return (
        "Leave auth out, or name what does not end in -PLUS as well: Python's ssl has no tls-exporter"
        " (RFC 9266), and a certificate signed by Ed25519 or RSASSA-PSS no tls-server-end-point (RFC 5929)."
    )


_OF_KERBEROS: Final = (
    "Check the ticket (klist): whose it is, and until when; whether the server's name is that of its service"
    " in Kerberos, and whether it lets this principal log in as that user."
)
_WITHOUT_SECRET: Final = {
    "EXTERNAL": (
        "No password was used: check client_certificate=(file, key_file), and whether the server trusts who"
        " signed it and lets it log in as this user. On a UNIX socket it is the user of this process."
    ),
    "GSSAPI": _OF_KERBEROS,
    "GSS-SPNEGO": _OF_KERBEROS,
}
"""By what else than a password or token somebody logs in."""


def refused_login(
    mechanism: str, *, has_token: bool, is_temporary: bool = False, is_own: bool = False
) -> str:
    """AUTH was refused, by that ``mechanism``; ``is_own``: it is not one of ours."""
    if is_temporary:
        return "The server cannot check log-ins just now: try again later."
    if is_own:
        return "Check what your mechanism says, and whether the server knows who it says it is."
    if mechanism in _WITHOUT_SECRET:
        return _WITHOUT_SECRET[mechanism]
    if has_token:
        return "Get a new token, for this server's scope; the user name must be the mailbox that it is for."
    return (
        "Check user name and password. Gmail, Microsoft 365, iCloud and Yahoo want an app password"
        " or OAuth (token=…), not the password of the account."
    )


def no_ticket(*, is_expired: bool = False) -> str:
    """There is no Kerberos ticket to log in with, or it is good no longer."""
    again = "Get a new one" if is_expired else "Get one"
    return (
        f"{again}: kinit, as the user that this runs as, and klist shows it (KRB5CCNAME names the cache); a"
        ' service has a keytab in place of kinit: Gssapi(keytab="FILE:…") or KRB5_CLIENT_KTNAME.'
    )


def kdc_down() -> str:
    """No KDC answers, or not in time."""
    return (
        "Check that krb5.conf or DNS has the realm's KDCs, that one runs, and that its port 88 can be reached"
        " from here: KRB5_TRACE=/dev/stderr kinit tells which are asked."
    )


def unknown_service(principal: str) -> str:
    """The KDC has no such server."""
    return (
        "Call the server by the name that its key is for, or give that: Gssapi(service=…), for another realm"
        f" with the realm behind the @. kvno {shortened(principal, _SHOWN)} tries it."
    )


def clock_skew() -> str:
    """Kerberos takes no ticket of another time."""
    return "Set the clock of this machine, the KDC or the server: they may differ by five minutes."


def no_service_name() -> str:
    """The server was called by an address or a path."""
    return 'Give its name as host or server_hostname, or Gssapi(service="smtp/mail.example.org").'


def refused_ticket(principal: str) -> str:
    """The server does not take the ticket that there was for it."""
    shown_principal = shortened(principal.rstrip("@"), _SHOWN)
    return (
        f"Ask who runs the server whether its keytab has the present key of {shown_principal}, and whether"
        " your principal (klist) may log in, and as whom; check the clocks."
    )


# -- what a reply asks for ---------------------------------------------------------------


_DEMANDS: Final = 530
_ENCRYPTION: Final = ((7, 10), (7, 11))
"""X.7.10, X.7.11: encryption needed (the registry of RFC 5248)."""
_TLS_WORDS: Final = ("starttls", "tls", "ssl", "encrypt")
_LOG_IN_WORDS: Final = ("auth", "log in", "login", "log on", "logon", "credential", "password", "sign in")
_LOOKED_AT: Final = 500
"""Characters of a reply's text."""


def demand_of(reply: Reply) -> Literal["tls", "login", ""]:
    """What has to come first by a 530; empty where that cannot be told.

    ``530 5.7.0 Must issue a STARTTLS command first`` (RFC 3207 4) has the same codes as ``530 5.7.0
    Authentication required`` (RFC 4954 6), so that mostly the text alone says it.
    """
    code = reply.enhanced
    if code is not None and (code.subject, code.detail) in _ENCRYPTION:
        return "tls"
    text = reply.text[:_LOOKED_AT].lower()
    is_login = any(word in text for word in _LOG_IN_WORDS)
    # "Must issue a STARTTLS command before AUTH"; "Authentication required, over SSL".
    if "starttls" in text or (not is_login and any(word in text for word in _TLS_WORDS)):
        return "tls"
    return "login" if is_login else ""


def of_reply(reply: Reply, *, is_tls: bool, is_logged_in: bool) -> str:
    """What a refusal asks for, where its code or text leaves no doubt; empty for any other one."""
    if reply.code != _DEMANDS:
        return _of_text(reply.text[:_LOOKED_AT].lower(), is_logged_in) if reply.code >= 400 else ""
    demand = demand_of(reply)
    if demand == "tls" or (not demand and is_logged_in and not is_tls):
        return _tls_wanted(is_tls)
    if demand or is_tls:
        return _login_wanted(is_logged_in)
    return 'Neither was done: give username and password (or token), and leave out tls="none".'


def _of_text(text: str, is_logged_in: bool) -> str:
    if "client certificate" in text:  # Postfix: 421 4.7.1 in place of the greeting
        return (
            "It wants a certificate of yours, which it trusts: client_certificate=(file, key_file), in PEM."
        )
    if "relay" in text and not is_logged_in:
        return "It takes no mail for others from here: log in, or ask that this machine may relay."
    if "greylist" in text or "graylist" in text:
        return "It wants to see the message again in some minutes: RetryPolicy(temporary=True), or later."
    return ""


def _tls_wanted(is_tls: bool) -> str:
    if is_tls:
        return "TLS is on: something between you and the server may end it, or it wants your certificate."
    return 'Use tls="starttls" in place of "none"; or port 465 with smtps://.'


def _login_wanted(is_logged_in: bool) -> str:
    if is_logged_in:
        return "A log-in was accepted before: ask whether this account may send here, and as this sender."
    return "Give username and password (or token)."


def no_smtputf8() -> str:
    """An address has letters beyond ASCII before the at sign, and the server takes none such."""
    return "Use the owner's ASCII address, if there is one; else a server that offers SMTPUTF8."


def another_connection() -> str:
    """A connection has had what its server takes on one."""
    return (
        "Send to error.unsent_recipients over another connection; an SmtpPool does that by itself. "
        'If the server takes more than it says: without=["LIMITS"].'
    )


def stays_in_journal() -> str:
    """The message was not sent, and will be."""
    return "It stays in the journal, and the next pool that has it sends it: do not hand it in again"


def nobody_left() -> str:
    """A message of which ``allow_recipients`` leaves no recipient."""
    return "Give redirect_to as well, and such messages go there."


# -- addresses, names --------------------------------------------------------------------


def several_addresses(count: int) -> str:
    """One text that looks like several addresses was given for one."""
    return f'These look like {count} addresses: give a list, as in ["a@example.org", "b@example.org"].'


def nearest(name: str, known: Iterable[str]) -> str:
    """The keyword or option that was likely meant; empty where nobody can guess it."""
    names = list(known)
    meant = _SAME.get(name.lower(), "")
    return meant if meant in names else next(iter(get_close_matches(name.lower()[:_SHOWN], names, n=1)), "")


def near_miss(name: str, known: Iterable[str]) -> str:
    """Which of these was meant, but for a slip of the finger; empty for what may be a name of its own."""
    return next(iter(get_close_matches(name[:_SHOWN], list(known), n=1, cutoff=_SLIP)), "")


def unknown_name(name: str, known: Iterable[str], what: str = "option") -> str:
    """What is said of a keyword or option that is none."""
    return f"no such {what}: {shown(name)}; {_meant(name, known)}"


def unknown_secret_name(names: Iterable[str], known: Iterable[str]) -> str:
    """The same of names that must not be shown: one of them may be a part of a password."""
    return _meant(next(iter(names), ""), known)


def _meant(name: str, known: Iterable[str]) -> str:
    known = list(known)
    meant = nearest(name, known)
    return f"did you mean {meant}?" if meant else f"there are {', '.join(sorted(known))}"
