"""OpenDKIM, from Debian, as a verifier: of a message in a file, with its keys in another one."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

from .daemon import require_files

PROGRAM = "/usr/sbin/opendkim"


def is_here() -> bool:
    """Whether it is installed."""
    return Path(PROGRAM).exists()


def make_keys(folder: Path) -> dict[str, bytes]:
    """Write ``rsa.pem`` and ``ed.pem``, and return the TXT records of the selectors ``rsa`` and ``ed``."""
    records = {}
    for selector, kind in (("rsa", ("rsa", "-pkeyopt", "rsa_keygen_bits:2048")), ("ed", ("ed25519",))):
        file = folder / f"{selector}.pem"
        _openssl("genpkey", "-quiet", "-algorithm", *kind, "-out", str(file))
        public = _openssl("pkey", "-in", str(file), "-pubout", "-outform", "DER")
        if selector == "ed":
            public = public[-32:]
        name = "ed25519" if selector == "ed" else "rsa"
        records[selector] = f"v=DKIM1; k={name}; p={base64.b64encode(public).decode()}".encode()
    return records


def verdicts(octets: bytes, records: dict[str, bytes], domain: str, folder: Path) -> dict[str, str]:
    """What OpenDKIM says of each signature of a message, by its selector."""
    require_files(PROGRAM)
    (folder / "dns").write_text(
        "".join(f"{name}._domainkey.{domain} {text.decode()}\n" for name, text in records.items())
    )
    (folder / "conf").write_text(
        f"Mode v\nTestDNSData {folder}/dns\nSyslog no\nAlwaysAddARHeader yes\nAuthservID test\n"
        f"TemporaryDirectory {folder}\n"
    )
    (folder / "message").write_bytes(octets)
    command = [PROGRAM, "-x", str(folder / "conf"), "-v", "-v", "-t", str(folder / "message")]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60)
    text = (told.stdout + told.stderr).decode()
    return {name: verdict for verdict, name in re.findall(r"dkim=(\w+).*? header\.s=(\w+)", text)}


def _openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True, timeout=60).stdout
