"""Providers of mail by name: host, port, TLS, and the limits that they publish.

``preset://user:password@gmail`` is a URL as any other. ``PRESETS`` may be added to::

    from pysmtpx.presets import PRESETS, Preset

    PRESETS["ours"] = Preset("mail.example.org", 465, limits={"max_connections": 2})

What stands here was read in the page that ``source`` names, and may have changed since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from .cures import unknown_secret_name
from .errors import InputError
from .values import whole
from .wire.address import domain_to_ascii

_REGION: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Preset:
    """Where a provider takes mail; ``{}`` in ``host`` is what follows the name, as in ``ses-eu-west-1``."""

    host: str
    port: int
    tls: Literal["implicit", "starttls"] = "implicit"
    limits: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of ``SmtpPool`` that keep to what the provider publishes."""
    source: str = ""
    """The page in which it was read."""

    def __post_init__(self) -> None:
        """Raises ``InputError`` for what cannot be right."""
        if not isinstance(self.host, str) or not self.host or self.host.count("{}") > 1:
            raise InputError("host is a name, with one {} at most")
        try:
            domain_to_ascii(self.host.replace("{}", "region"))
        except InputError as error:
            raise error.at("host") from None
        whole("port", self.port, most=65535)
        if self.tls not in ("implicit", "starttls"):
            raise InputError('tls of a preset is "implicit" or "starttls"')
        if not isinstance(self.limits, Mapping) or not all(isinstance(name, str) for name in self.limits):
            raise InputError("limits is a mapping: arguments of SmtpPool by name")
        if not isinstance(self.source, str):
            raise InputError("source is a text")


_WELL_KNOWN: Final = "https://nodemailer.com/smtp/well-known-services"

PRESETS: Final[dict[str, Preset]] = {
    "brevo": Preset("smtp-relay.brevo.com", 465, source="https://developers.brevo.com/docs/smtp-integration"),
    "fastmail": Preset(
        "smtp.fastmail.com",
        465,
        source="https://www.fastmail.com/help/technical/servernamesandports.html",
    ),
    "gmail": Preset(
        "smtp.gmail.com",
        465,
        source="https://developer.nylas.com/docs/cookbook/email/gmail-smtp-settings/",
    ),
    "icloud": Preset("smtp.mail.me.com", 587, "starttls", source=_WELL_KNOWN),
    "mailgun": Preset(
        "smtp.mailgun.org",
        465,
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp.md",
    ),
    "mailjet": Preset(
        "in-v3.mailjet.com", 587, "starttls", source="https://smtptester.org/guides/mailjet-smtp-test/"
    ),
    "microsoft365": Preset(
        "smtp.office365.com",
        587,
        "starttls",
        # A mailbox has three connections at a time. The rate is published as 30 messages a minute.
        limits={"max_connections": 3, "rate": 0.5},
        source="https://techcommunity.microsoft.com/t5/exchange-team-blog/"
        "changes-coming-to-the-smtp-authenticated-submission-client/ba-p/607825",
    ),
    "outlook.com": Preset(
        "smtp-mail.outlook.com",
        587,
        "starttls",
        source="https://support.microsoft.com/en-us/office/"
        "pop-imap-and-smtp-settings-8361e398-8af4-4e97-b147-6c6c4ac95353",
    ),
    "postmark": Preset(
        "smtp.postmarkapp.com",
        587,
        "starttls",
        source="https://postmarkapp.com/support/article/"
        "811-what-are-the-smtp-details-api-tokens-i-should-be-using",
    ),
    "sendgrid": Preset(
        "smtp.sendgrid.net",
        465,
        limits={"max_messages": 5000},
        source="https://www.twilio.com/docs/sendgrid/for-developers/sending-email/integrating-with-the-smtp-api",
    ),
    "ses": Preset(
        "email-smtp.{}.amazonaws.com",
        587,
        "starttls",
        source="https://docs.aws.amazon.com/ses/latest/dg/smtp-connect.html",
    ),
    "yahoo": Preset("smtp.mail.yahoo.com", 465, source=_WELL_KNOWN),
    "zoho": Preset("smtp.zoho.com", 465, source="https://www.zoho.com/mail/help/zoho-smtp.html"),
}
"""All of them by name; whoever needs another adds it."""


def find(name: str) -> Preset:
    """The preset of this name, with the host of its region; capitals, hyphens and underscores do not matter.

    Raises ``InputError``, which does not repeat the name: in a URL it may be a part of a password.
    """
    known = {_plain(each): preset for each, preset in PRESETS.items()}
    whole = known.get(_plain(name))
    if whole is not None and "{}" not in whole.host:
        return whole
    name, region = _parted(name.lower(), known)
    preset = known.get(_plain(name))
    if preset is None or "{}" not in preset.host:
        raise InputError(f"there is no such preset; {unknown_secret_name([name], PRESETS)}")
    if not _REGION.fullmatch(region):
        raise InputError(f"the preset {name} needs its region behind it: preset://{name}-REGION")
    return replace(preset, host=preset.host.replace("{}", region))


def _plain(name: str) -> str:
    """A name as it is compared."""
    return name.lower().replace("-", "").replace("_", "")


def _parted(name: str, known: Mapping[str, Preset]) -> tuple[str, str]:
    """The name of a preset that has regions, and the region behind it."""
    for end in (place for place, letter in enumerate(name) if letter in "-_"):
        preset = known.get(_plain(name[:end]))
        if preset is not None and "{}" in preset.host:
            return name[:end], name[end + 1 :].replace("_", "-")
    return name.partition("-")[0] if _plain(name) not in known else name, ""
