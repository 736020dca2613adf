"""What was signed leaves as it was signed: judged by openssl, by dkimpy and by octets."""

from __future__ import annotations

import hashlib
import subprocess
from base64 import b64encode
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import SMTP, compat32, default
from shutil import which

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.messages import EIGHT, FULL, NOTHING, octets

from pysmtpx.errors import InputError, NotSupportedError
from pysmtpx.message import prepare
from pysmtpx.mime import signatures

LONG = "A rather long name of a file that nobody would type, of the year 2026, final version.pdf"
needs_openssl = pytest.mark.skipif(which("openssl") is None, reason="there is no openssl")


# Parts as people make them before they sign.


def plain() -> Message:
    part = EmailMessage()
    part.set_content("Hello\n")
    return part


def built(policy=default) -> Message:
    part = EmailMessage(policy=policy)
    part["Content-Description"] = "Grüße an alle, und eine lange Beschreibung " * 4
    part.set_content("Grüße\n" + "word " * 100 + "\n", cte="quoted-printable")
    return part


def with_attachment() -> Message:
    part = EmailMessage()
    part.set_content("Hello\n.\nFrom here\n")
    part.add_attachment(b"\0\xff" * 500, maintype="application", subtype="pdf", filename=LONG)
    part.add_attachment(b"x", maintype="application", subtype="pdf", filename="Übersicht " + LONG)
    return part


def of_old_classes() -> Message:
    leaf = MIMEApplication(b"x" * 100)
    leaf.add_header("Content-Disposition", "attachment", filename=LONG)
    leaf["Content-Description"] = "Grüße " * 20
    return MIMEMultipart("mixed", _subparts=[MIMEText("Hello\n"), leaf])


def with_message() -> Message:
    inner = plain()
    inner["Subject"], inner["From"] = "Grüße " * 30, "Jörg <j@x.org>"
    part = MIMEMultipart(_subparts=[MIMEText("see below\n"), MIMEMessage(inner)])
    part["X-Long"] = "word " * 40 + "end"
    return part


def parsed(policy=default) -> Message:
    source = of_old_classes().as_bytes(policy=SMTP).replace(b"--\r\n", b"--", 1)
    return message_from_bytes(source, policy=policy)


PARTS = [plain, built, with_attachment, of_old_classes, with_message, parsed]
AS_SIGNED = {
    "SMTP": lambda part: part.as_bytes(policy=SMTP),
    "own policy": lambda part: part.as_bytes(policy=part.policy.clone(linesep="\r\n")),
    "LF replaced": lambda part: part.as_bytes().replace(b"\n", b"\r\n"),
    "as text": lambda part: part.as_string().replace("\n", "\r\n").encode("ascii"),
    "not folded": lambda part: part.as_bytes(policy=part.policy.clone(max_line_length=0, linesep="\r\n")),
    "open": lambda part: part.as_bytes(policy=SMTP).removesuffix(b"\r\n"),
}
CASES = [
    *((make, how) for make in PARTS for how in AS_SIGNED if how != "open"),
    (parsed, "open"),  # it alone can have come without a last line end
]


def envelope(subtype: str, part: Message, signature: MIMEApplication) -> Message:
    message = MIMEMultipart("signed", protocol=f"application/{subtype}", micalg="sha-256")
    message["From"], message["To"] = "a@x.org", "b@x.org"
    message["Subject"] = "Grüße " * 30
    message.attach(part)
    message.attach(signature)
    return message


@pytest.fixture(scope="session")
def smime(tmp_path_factory):
    """Sign octets, and verify a message, with a key of its own."""
    path = tmp_path_factory.mktemp("smime")

    def openssl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["openssl", *arguments], input=data, capture_output=True, cwd=path, check=False)

    made = openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=a", "-addext", "keyUsage=digitalSignature"),
    )
    assert made.returncode == 0, made.stderr

    def sign(data: bytes, *options: str) -> MIMEApplication:
        signers = ("-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER", "-binary")
        done = openssl("cms", "-sign", *signers, *options, data=data)
        assert done.returncode == 0, done.stderr
        return MIMEApplication(done.stdout, "pkcs7-signature", name="smime.p7s")

    def verify(message: bytes) -> None:
        done = openssl("smime", "-verify", "-CAfile", "cert.pem", "-purpose", "any", data=message)
        assert done.returncode == 0, done.stderr.decode()

    return sign, verify


@needs_openssl
class TestSmime:
    @pytest.mark.parametrize("capabilities", [NOTHING, EIGHT, FULL])
    @pytest.mark.parametrize(("make", "how"), CASES)
    def test_verifies(self, smime, make, how, capabilities):
        """However the signer had it written: the signature says which way it was."""
        sign, verify = smime
        part = make()
        as_signed = AS_SIGNED[how](part)
        message = envelope("pkcs7-signature", part, sign(as_signed))
        sent = octets(prepare(message, capabilities))
        assert as_signed in sent
        verify(sent)

    def test_nested(self, smime):
        sign, verify = smime
        part = with_attachment()
        signed = envelope("pkcs7-signature", part, sign(part.as_bytes(policy=SMTP)))
        for name in ("From", "To", "Subject"):
            del signed[name]
        outer = EmailMessage()
        outer["From"], outer["To"] = "a@x.org", "b@x.org"
        outer.set_content("Grüße\n")
        outer.make_mixed()
        outer.attach(signed)
        forwarded = EmailMessage()
        forwarded["From"], forwarded["To"] = "a@x.org", "b@x.org"
        forwarded.set_content("Grüße\n")
        forwarded.add_attachment(outer)
        for message in (outer, forwarded):
            sent = octets(prepare(message, NOTHING))
            start = sent.index(b"Content-Type: multipart/signed")
            verify(b"MIME-Version: 1.0\r\n" + sent[start:])

    @pytest.mark.parametrize("policy", [compat32, default])
    @pytest.mark.parametrize("end", [b"--i--\r\n--o", b"--i--\r\n\r\n--o", b"--i--\r\n\r\nepilogue\r\n--o"])
    def test_parsed_as_a_whole(self, smime, end, policy):
        """``email`` forgets whether a line end was behind the last delimiter; the signature remembers."""
        sign, verify = smime
        part = b"Content-Type: multipart/mixed; boundary=i\r\nX-Long: " + b"word " * 30
        part += b"end\r\n\r\n--i\r\n\r\nhi\r\n" + end.removesuffix(b"\r\n--o")
        signature = sign(part).as_bytes(policy=SMTP)
        source = b"MIME-Version: 1.0\r\nFrom: a@x.org\r\nTo: b@x.org\r\nContent-Type: multipart/signed; "
        source += b'protocol="application/pkcs7-signature"; boundary=o\r\n\r\n--o\r\n'
        source += part + b"\r\n--o\r\n" + signature + b"\r\n--o--\r\n"
        sent = octets(prepare(message_from_bytes(source, policy=policy), NOTHING))
        assert part + b"\r\n--o\r\n" in sent
        verify(sent)

    def test_what_was_changed_since(self, smime):
        """A signature that nothing here is covered by: said, not sent."""
        sign, _ = smime
        part = built()
        message = envelope("pkcs7-signature", part, sign(part.as_bytes(policy=SMTP) + b"more\r\n"))
        with pytest.raises(InputError, match="octets that were signed"):
            prepare(message, EIGHT)
        message = envelope("pkcs7-signature", part, sign(part.as_bytes(policy=SMTP) + b"more", "-noattr"))
        assert part.as_bytes(policy=SMTP) in octets(prepare(message, EIGHT))  # which shows nothing

    def test_8_bit_stays_or_is_refused(self, smime):
        sign, verify = smime
        part = EmailMessage()
        part.set_content("Grüße\n", cte="8bit")
        message = envelope("pkcs7-signature", part, sign(part.as_bytes(policy=SMTP)))
        verify(octets(prepare(message, EIGHT)))
        with pytest.raises(NotSupportedError, match="8BITMIME"):
            prepare(message, NOTHING)

    def test_the_signature_itself_may_be_encoded(self, smime):
        sign, verify = smime
        part = built()
        signature = sign(part.as_bytes(policy=SMTP))
        der = signature.get_payload(decode=True)
        del signature["Content-Transfer-Encoding"]
        signature["Content-Transfer-Encoding"] = "binary"
        signature.set_payload(der.decode("ascii", "surrogateescape"))
        verify(octets(prepare(envelope("pkcs7-signature", part, signature), NOTHING)))


@pytest.mark.parametrize("make", PARTS)
@pytest.mark.parametrize("subtype", ["pgp-signature", "x-unknown"])
def test_where_the_signature_shows_nothing(make, subtype):
    """As ``as_bytes`` with the policy for SMTP has it, the most likely of all."""
    part = make()
    as_signed = part.as_bytes(policy=SMTP)
    sent = octets(prepare(envelope(subtype, part, MIMEApplication(b"?", subtype)), NOTHING))
    if make in (plain, built, with_attachment):
        assert as_signed in sent


class TestOpenPgp:
    """A signature packet by RFC 9580 5.2.3, with what shows of the digest."""

    @staticmethod
    def signature(content: bytes, *, armored: bool, old: bool = False) -> bytes:
        hashed = bytes([4, 0, 22, 8]) + b"\0\6" + b"\5\2" + b"\1\2\3\4"
        digest = hashlib.sha256(content + hashed + b"\x04\xff" + len(hashed).to_bytes(4, "big")).digest()
        body = hashed + b"\0\0" + digest[:2] + b"\0\x08\xff" * 2
        head = b"\x88" if old else b"\xc2"
        packet = head + bytes([len(body)]) + body
        if not armored:
            return packet
        lines = b"-----BEGIN PGP SIGNATURE-----\nVersion: X\n\n" + b64encode(packet)
        return lines + b"\n=abcd\n-----END PGP SIGNATURE-----\n"

    @pytest.mark.parametrize("armored", [False, True])
    @pytest.mark.parametrize("old", [False, True])
    def test_shows_what_it_covers(self, armored, old):
        made = self.signature(b"content", armored=armored, old=old)
        assert signatures.covers(made, b"content") is True
        assert signatures.covers(made, b"contents") is False
        assert signatures.covers(made[:10], b"content") is None

    @pytest.mark.parametrize(("make", "how"), CASES)
    def test_octets_are_kept(self, make, how):
        part = make()
        as_signed = AS_SIGNED[how](part)
        signature = MIMEApplication(b"", "pgp-signature")
        signature.set_payload(self.signature(as_signed, armored=True).decode())
        del signature["Content-Transfer-Encoding"]
        assert as_signed in octets(prepare(envelope("pgp-signature", part, signature), NOTHING))


def test_encrypted():
    """RFC 3156 4: nothing in it is altered."""
    message = MIMEMultipart("encrypted", protocol="application/pgp-encrypted")
    for text, subtype in (
        ("Version: 1\n", "pgp-encrypted"),
        ("-----BEGIN PGP MESSAGE-----\n", "octet-stream"),
    ):
        part = Message()
        part["Content-Type"] = f'application/{subtype}; name="{LONG}"'
        part.set_payload(text)
        message.attach(part)
    message["From"], message["To"] = "a@x.org", "b@x.org"
    sent = octets(prepare(message, NOTHING))
    for part in message.get_payload():
        assert part.as_bytes(policy=part.policy.clone(max_line_length=0, linesep="\r\n")) in sent


@pytest.fixture(scope="session")
def keys():
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, b"v=DKIM1; k=rsa; p=" + b64encode(public)


class TestDkim:
    @pytest.mark.parametrize("capabilities", [NOTHING, EIGHT, FULL])
    @pytest.mark.parametrize("canon", [b"relaxed", b"simple"])
    @pytest.mark.parametrize("make", [built, with_attachment, of_old_classes, with_message, parsed])
    def test_built_and_signed(self, keys, make, canon, capabilities):
        message = make()
        if canon == b"simple" and isinstance(message, EmailMessage):
            canon = b"relaxed"
        for name in ("From", "To", "Subject", "Date", "Message-ID"):
            del message[name]
        message["From"], message["To"] = "a@x.org", "b@x.org"
        message["Subject"] = "Subject, short" if canon == b"simple" else "Grüße an alle " * 10
        message["Date"] = "Fri, 21 Nov 1997 09:55:06 -0600"
        message["Message-ID"] = "<1@x.org>"
        self.check(keys, message, message.as_bytes(), canon, capabilities)

    def check(self, keys, message, source, canon, capabilities):
        private, public = keys
        names = [b"from", b"to", b"subject", b"date", b"message-id"]
        field = dkim.sign(source, b"s", b"x.org", private, canonicalize=(canon, canon), include_headers=names)
        value = field.decode().partition(":")[2].strip()
        # An EmailMessage takes no line ends; where they are gone the simple form cannot be verified.
        message["DKIM-Signature"] = value.replace("\r\n", "" if isinstance(message, EmailMessage) else "\n")
        sent = octets(prepare(message, capabilities))
        assert dkim.verify(sent, dnsfunc=lambda *_, **__: public)

    @pytest.mark.parametrize("policy", [default, compat32])
    @pytest.mark.parametrize("end", ["--i--\r\n--o", "--i--\r\n\r\n--o"])
    def test_parsed(self, keys, end, policy):
        """As Gmail writes it: between two delimiters only the line end that belongs to the second."""
        private, public = keys
        source = (
            "From: a@x.org\r\nTo: b@x.org\r\nSubject:  two  blanks\r\n"
            "Date: Fri, 21 Nov 1997 09:55:06 -0600\r\nMessage-ID: <1@x.org>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
            "Content-Type: multipart/alternative; boundary=i\r\n\r\n"
            f"--i\r\n\r\nhi\r\n{end}\r\n\r\nx\r\n--o--\r\n"
        ).encode()
        field = dkim.sign(source, b"s", b"x.org", private, canonicalize=(b"relaxed", b"simple"))
        message = message_from_bytes(field + source, policy=policy)
        sent = octets(prepare(message, NOTHING))
        assert dkim.verify(sent, dnsfunc=lambda *_, **__: public)
