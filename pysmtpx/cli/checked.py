"""What a look at servers came to, told to people and programs, and the exit code that it stands for."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from ..checking.report import Check, TlsCheck
from ..cures import Face
from ..wire.capabilities import Capabilities
from .exits import Exit, exit_of
from .show import Show


def tell_all(checks: Iterable[Check], show: Show, face: Face) -> Exit:
    """Tell each, in the words of that face; the code is that of the first to which mail cannot be sent."""
    code = Exit.ACCEPTED
    for seen in checks:
        show.value(seen.as_dict(face))
        if not show.as_json:
            _tell(seen, show, face)
        code = code or _code(seen)
    return code


def _code(seen: Check) -> Exit:
    if seen.ok:
        return Exit.ACCEPTED
    if seen.error is not None:
        code = exit_of(seen.error)
        return Exit.NO_CONNECTION if code is Exit.USAGE else code
    return Exit.REJECTED if seen.envelope else Exit.NO_CONNECTION


def _tell(seen: Check, show: Show, face: Face) -> None:
    """The whole of it for people."""
    show.line(f"{seen.server}", "bold")
    _addresses(seen, show)
    _tls(seen, show)
    _offer(seen, show)
    if seen.logged_in is None and seen.mechanism:
        show.line(f"A log-in would be by {seen.mechanism}")
    if seen.logged_in is not None:
        state = "succeeded" if seen.logged_in else "failed"
        show.line(f"Log-in by {seen.mechanism or 'no mechanism'}: {state}")
    if seen.seconds is not None:
        show.line(f"A session is ready after {_milliseconds(seen.seconds)}")
    rows = [(each.command, each.address or "<>", each.reply or each.error) for each in seen.envelope]
    show.table("Envelope (nothing was sent)", ("Command", "Address", "Reply"), rows)
    for each in seen.worded(face):
        style = "bold red" if each.level == "problem" else "yellow"
        show.line(f"{each.level.capitalize()}: {each.what}", style)
        show.line(f"  Cure: {each.cure}")
    if seen.ok:
        show.line("Mail can be sent to this server." if seen.capabilities else "", "green")


def _binding(tls: TlsCheck) -> str:
    """What a log-in is bound to, and what this Python cannot do."""
    kind = tls.binding.kind if tls.binding else "none"
    if kind == "tls-exporter" or tls.version != "TLSv1.3":
        return kind
    return f"{kind} (tls-exporter: not with the ssl of Python {platform.python_version()})"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _addresses(seen: Check, show: Show) -> None:
    rows = [
        (each.address, each.error if each.seconds is None else f"connected in {_milliseconds(each.seconds)}")
        for each in seen.addresses
    ]
    title = "Addresses"
    if seen.looked_up is not None:
        title += f" (looked up in {_milliseconds(seen.looked_up)})"
    show.table(title, ("Address", "Answer"), rows)


def _tls(seen: Check, show: Show) -> None:
    if seen.tls is None:
        return
    rows = [("Version", seen.tls.version), ("Cipher", f"{seen.tls.cipher} ({seen.tls.bits} bits)")]
    rows.append(("Channel binding", _binding(seen.tls)))
    own = seen.tls.certificate
    if own is not None:
        rows += [
            ("Subject", own.subject),
            ("Names", ", ".join(own.names)),
            ("Issuer", own.issuer),
            ("Valid", f"{own.not_before:%Y-%m-%d} to {own.not_after:%Y-%m-%d}, {own.days_left()} days left"),
            ("SHA-256", own.fingerprint),
            ("Key (SPKI)", own.key_fingerprint),
        ]
    rows += [("Chain", f"{each.subject}, until {each.not_after:%Y-%m-%d}") for each in seen.tls.chain]
    rows += [("Roots", seen.roots), ("Verified", "yes" if seen.verified else "no")]
    show.table("TLS", ("What", "Value"), rows)


def _offer(seen: Check, show: Show) -> None:
    before, after = seen.before_tls, seen.after_tls
    if before is None and after is None:
        return
    keywords = sorted({*(before.keywords if before else ()), *(after.keywords if after else ())})
    columns = ["Extension"] + ["Before TLS"] * (before is not None) + ["Under TLS"] * (after is not None)
    offers = [each for each in (before, after) if each is not None]
    show.table("Offered", columns, [(key, *(_value(each, key) for each in offers)) for key in keywords])


def _value(offer: Capabilities, keyword: str) -> str:
    values = offer.get(keyword)
    return "–" if values is None else " ".join(values) or "yes"
