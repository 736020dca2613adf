"""Which server, and who we are there: the options that every command which dials has."""

from __future__ import annotations

import argparse
import getpass
import os
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import InputError
from ..frames import conceals
from ..server import Server, secrets_of
from . import flags

URL_VARIABLE: Final = "PYSMTPX_URL"
PASSWORD_VARIABLE: Final = "PYSMTPX_PASSWORD"
TOKEN_VARIABLE: Final = "PYSMTPX_TOKEN"
PROXY_PASSWORD_VARIABLE: Final = "PYSMTPX_PROXY_PASSWORD"
_MOST_SECRET: Final = 65_536
_WAYS: Final = {
    "proxy": ("URL", "go through it: socks5://, socks4a://, http://, https://"),
    "roots": ("ROOTS", "which authorities are trusted: system, certifi, or a PEM file or directory"),
    "fingerprint": ("FINGERPRINT", "the certificate or key that the server must have, as check shows it"),
    "without": ("KEYWORD", "a keyword of EHLO that counts as not offered, such as CHUNKING"),
}
"""Options of ``Server`` by their own names, with the word for the value and the help."""
_SEVERAL: Final = frozenset(("fingerprint", "without"))
"""Those of which a list may be given, with commas or by the option again."""


def add_server(parser: argparse.ArgumentParser) -> None:
    """Give a command the server and its options."""
    parser.add_argument(
        "server",
        nargs="?",
        help=f"smtp://host:port, smtps://, lmtp://, lmtp+unix:///path, or a host; else ${URL_VARIABLE}",
    )
    group = parser.add_argument_group("server")
    group.add_argument("--tls", choices=["implicit", "starttls", "opportunistic", "none"])
    group.add_argument("--ca-file", metavar="FILE", help="PEM file with the authority to trust")
    group.add_argument("--client-certificate", metavar="FILE", help="PEM file with our certificate")
    group.add_argument("--client-key", metavar="FILE", help="PEM file with its key, if that is another file")
    group.add_argument("--server-hostname", metavar="NAME", help="the name that its certificate must bear")
    group.add_argument("--local-hostname", metavar="NAME", help="our name in EHLO")
    group.add_argument("--connect-timeout", metavar="SECONDS", type=flags.seconds)
    for name, (metavar, text) in _WAYS.items():
        action = "append" if name in _SEVERAL else "store"
        group.add_argument(f"--{name}", metavar=metavar, help=text, action=action)
    who = parser.add_argument_group(
        "log-in",
        f"The password comes from a prompt, a file, ${PASSWORD_VARIABLE}; a token from ${TOKEN_VARIABLE};"
        f" the password of a proxy from ${PROXY_PASSWORD_VARIABLE}, or a prompt.",
    )
    who.add_argument("--username", metavar="NAME")
    who.add_argument(
        "--password-file", metavar="FILE", help="its first line is the password; - is standard input"
    )
    who.add_argument("--token-file", metavar="FILE", help="its first line is an OAuth token")
    who.add_argument(
        "--oauth",
        metavar="NAME",
        help="who gives tokens: microsoft, google or oauth2; the rest from $PYSMTPX_TENANT,"
        " $PYSMTPX_CLIENT_ID, $PYSMTPX_CLIENT_SECRET and so on",
    )
    who.add_argument("--auth", metavar="MECHANISM", action="append", help="allow this SASL mechanism only")
    who.add_argument("--insecure-auth", action="store_true", help="allow a password in clear text")
    who.add_argument(
        "--password-in-url",
        action="store_true",
        help="allow a password in a URL among the arguments, where every user of this machine can see it",
    )


@conceals
def server_of(arguments: argparse.Namespace) -> Server:
    """The server that the arguments and the environment describe.

    Raises ``InputError``, which says what to give.
    """
    url = _url(arguments)
    options: dict[str, Any] = {
        name: value
        for name in ("tls", "server_hostname", "local_hostname", "connect_timeout", "auth")
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.insecure_auth:
        options["insecure_auth"] = True
    if arguments.ca_file:
        options["ssl_context"] = _context(arguments)
    elif arguments.client_certificate:
        key = arguments.client_key
        options["client_certificate"] = (
            (arguments.client_certificate, key) if key else arguments.client_certificate
        )
    return Server.from_url(url, **options, **_ways(arguments, url), **_account(arguments, url))


@conceals
def _ways(arguments: argparse.Namespace, url: str) -> dict[str, Any]:
    """The options of ``_WAYS`` that were given, and the password of the proxy."""
    given = {name: value for name in _WAYS if (value := getattr(arguments, name)) is not None}
    given.update({name: ",".join(given[name]) for name in _SEVERAL & given.keys()})
    proxy = given.get("proxy")
    if proxy is not None:
        _refuse_password(arguments, proxy)
    elif not _states(url, "proxy"):
        return given  # the variable is meant for another server
    if password := os.environ.get(PROXY_PASSWORD_VARIABLE):
        given["proxy_password"] = password
    elif proxy and not proxy.startswith("socks4a:") and (name := _lone_user(proxy)):
        given["proxy_password"] = _asked(f"Password of {name} for the proxy: ", f"${PROXY_PASSWORD_VARIABLE}")
    return given


def _url(arguments: argparse.Namespace) -> str:
    given = arguments.server
    url = given or os.environ.get(URL_VARIABLE)
    if not url:
        raise InputError(
            f"no server was given: an argument such as smtp://mail.example.org, or ${URL_VARIABLE}"
        )
    url = url if "://" in url else f"smtp://{url}"
    if given:
        _refuse_password(arguments, url)
    return url


@conceals
def _refuse_password(arguments: argparse.Namespace, url: str) -> None:
    if "@" in url and _password(url) is not None and not arguments.password_in_url:
        raise InputError(
            "a password in an argument can be seen by every user of this machine: put the URL into "
            f"${URL_VARIABLE}, use --username with a prompt or --password-file (for that of a proxy "
            f"${PROXY_PASSWORD_VARIABLE}); or insist: --password-in-url"
        )


@conceals
def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return ""


def _context(arguments: argparse.Namespace) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=arguments.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if arguments.client_certificate:
            context.load_cert_chain(arguments.client_certificate, arguments.client_key)
    except OSError as error:
        raise InputError(f"the certificates cannot be loaded: {error}") from error
    return context


@conceals
def _account(arguments: argparse.Namespace, url: str) -> dict[str, Any]:
    if arguments.oauth:
        if _states(url, "oauth"):
            raise InputError("--oauth was given, and the URL names a provider too: which one is meant?")
        from ..oauth.named import configured  # only who names a provider needs it

        name = arguments.username or _lone_user(url)
        secret: dict[str, Any] = {"token": configured(arguments.oauth, name)}
    elif arguments.token_file:
        secret = {"token": _first_line(arguments.token_file)}
    elif arguments.password_file:
        secret = {"password": _first_line(arguments.password_file)}
    else:
        secret = _unasked(arguments, url)
    if arguments.username:
        return {"username": arguments.username, **secret}
    # Who it is for stands in the URL. With nobody there the variable is meant for another server.
    return secret if "@" in url else {}


@conceals
def _unasked(arguments: argparse.Namespace, url: str) -> dict[str, Any]:
    """What no option says: of the environment or a prompt, if a mechanism that is allowed takes it."""
    taken = secrets_of(_mechanisms(arguments, url))
    variables = {"token": TOKEN_VARIABLE, "password": PASSWORD_VARIABLE}
    found = {
        name: value for name in variables if name in taken and (value := os.environ.get(variables[name]))
    }
    name = arguments.username or _lone_user(url)
    if len(found) > 1 and name is not None:
        raise InputError(f"${TOKEN_VARIABLE} and ${PASSWORD_VARIABLE} are both set: which one is meant?")
    if not found and name and "password" in taken and not _states(url, "oauth"):
        return {"password": _asked(f"Password of {name}: ", f"${PASSWORD_VARIABLE} or --password-file")}
    return found


def _asked(prompt: str, instead: str) -> str:
    """What whoever sits there answers. Raises ``InputError`` where nobody does, as in a cron job."""
    try:
        return getpass.getpass(prompt)
    except EOFError:
        pass
    raise InputError(f"a password is needed and nobody is there to give one: {instead} has it")


def _mechanisms(arguments: argparse.Namespace, url: str) -> list[str]:
    """The only mechanisms that are allowed, if some are named: by the option, or else by the URL."""
    stated = parse_qs(url.partition("?")[2]).get("auth", [""])[0]
    return [each.upper() for each in arguments.auth or stated.split(",") if each]


def _states(url: str, name: str) -> bool:
    """Whether this option stands in it."""
    return any(option.startswith(f"{name}=") for option in url.partition("?")[2].split("&"))


@conceals
def _lone_user(url: str) -> str | None:
    """The user in a URL that has no password."""
    if "@" not in url or _password(url) is not None:
        return None
    return unquote(urlsplit(url).username or "")


@conceals
def _first_line(path: str) -> str:
    try:
        if path == "-":
            return input()
        with Path(path).open(encoding="utf-8") as file:
            return file.readline(_MOST_SECRET).rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"the secret cannot be read from {path}: {type(error).__name__}") from None
