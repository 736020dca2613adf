"""The pages in docs/: their Python is run, their links lead somewhere, and no name is left out."""

from __future__ import annotations

import email
import importlib
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import opendkim, pages, projects, smime
from support.certs import authority
from support.tokens import token_server, without_proxy

import pysmtpx
import pysmtpx.checking
import pysmtpx.oauth
import pysmtpx.testing
from pysmtpx import development

pytestmark = pytest.mark.slow

OF_THEIR_OWN = {
    "how-to/django-outbox.md": "contrib/django/test_outbox_docs.py",
    "command-line.md": "cli/test_docs.py",
    "celery.md": "contrib/celery/test_docs.py",
    "how-to/rq.md": "real/test_rq.py",
    "how-to/django-tasks.md": "contrib/django/test_task_backend.py",
    "how-to/dramatiq.md": "contrib/dramatiq/test_actor.py",
    "from-aiosmtplib.md": "contrib/test_docs_aiosmtplib.py",
    "from-django.md": "contrib/django/test_docs.py",
    "from-flask-mail.md": "contrib/flask/test_docs.py",
    "from-smtplib.md": "smtplib_face/test_documents.py",
}
"""Pages that need a framework around them, and the test that runs them."""
ALL = {str(path.relative_to(pages.DOCS)): path for path in sorted(pages.DOCS.rglob("*.md"))}
PAGES = {
    name: snippets
    for name, path in ALL.items()
    if name not in OF_THEIR_OWN and (snippets := pages.snippets_of(path.read_text("utf-8")))
}
ENVIRONMENT = {
    "SMTP_PASSWORD": "password",
    "PROXY_PASSWORD": "password",
    "POSTMARK_TOKEN": "server-token",
    "CLIENT_ID": "id",
    "CLIENT_SECRET": "secret",
    "REFRESH_TOKEN": "refresh",
}
ARRIVED = {
    "tutorial.md": 0,  # it brings a server of its own
    "how-to/html-and-attachments.md": 6,
    "how-to/bulk.md": 4,
    "how-to/retry.md": 2,
    "how-to/journal.md": 1,
    "how-to/providers.md": 5,
    "how-to/authentication.md": 1,
    "how-to/oauth.md": 3,
    "how-to/delivery-reports.md": 2,
    "how-to/lmtp.md": 1,
    "how-to/certificates.md": 0,
    "how-to/ways-to-a-server.md": 2,
    "how-to/logging.md": 2,
    "how-to/observability.md": 2,
    "how-to/errors-by-mail.md": 1,
    "how-to/development.md": 0,
    "how-to/tests.md": 0,  # nor this
    "how-to/before-send.md": 1,
    "how-to/dkim.md": 2,
    "how-to/smime.md": 1,
    "how-to/staging.md": 2,
    "how-to/gunicorn-and-gevent.md": 1,
    "how-to/several-servers.md": 9,
    "troubleshooting.md": 0,
}
"""How many messages a page sends to the servers that it names."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the keys and certificates that the pages name; they are made once."""
    folder = tmp_path_factory.mktemp("keys")
    issued = authority().issue_cert("robot.example.org")
    issued.cert_chain_pems[0].write_to_path(folder / "robot.pem")
    issued.private_key_pem.write_to_path(folder / "robot.key")
    authority().cert_pem.write_to_path(folder / "company-ca.pem")
    opendkim.make_keys(folder)
    (folder / "rsa.pem").rename(folder / "dkim-rsa.pem")
    (folder / "ed.pem").rename(folder / "dkim-ed25519.pem")
    smime.Authority().write(folder)
    (folder / "ec-certificate.pem").rename(folder / "smime-certificate.pem")
    (folder / "ec-key.pem").rename(folder / "smime-key.pem")
    return folder


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: Path) -> Iterator[pages.World]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "invoice.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "people.csv").write_text(
        "address,name\nann@example.com,Ann\nbob@example.com,Bob\neve@example.com,Eve\n", "utf-8"
    )
    for file in keys.iterdir():
        shutil.copy(file, tmp_path)
    without_proxy(monkeypatch)
    with pages.world(monkeypatch, tmp_path) as made, token_server() as tokens:
        monkeypatch.setenv("TOKEN_ENDPOINT", tokens.url)
        monkeypatch.setenv("PYSMTPX_CLIENT_SECRET", "")  # a page may set it
        yield made
    logging.getLogger("pysmtpx.wire").setLevel(logging.NOTSET)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom_and_prints_what_it_shows(
    page: str, world: pages.World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in PAGES[page]:
        if snippet.is_test:
            continue
        pages.run(snippet, page, names, tmp_path)
        printed = capsys.readouterr().out
        assert snippet.printed in (None, printed), f"{page}, line {snippet.line}"
    assert world.count == ARRIVED[page]


def names_of(page: str, folder: Path) -> dict[str, Any]:
    """What there is when all the snippets of a page have run in a folder."""
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in PAGES[page]:
        pages.run(snippet, page, names, folder)
    return names


def test_a_run_that_was_killed_goes_on_and_sends_nobody_anything_twice(
    world: pages.World, tmp_path: Path
) -> None:
    """By the page on many messages: who had begun is in doubt, who was unsent is owed it."""
    names = names_of("how-to/bulk.md", tmp_path)
    before = world.count
    (tmp_path / "half").write_text(
        "began ann@example.com\nbegan bob@example.com\nunsent bob@example.com\nbegan eve@example.com\n"
        "accepted eve@example.com\n"
    )
    fates = names["run"]("smtps://user:password@mail.example.org", "people.csv", "half")
    assert fates == {
        "ann@example.com": "began",
        "bob@example.com": "rejected",
        "eve@example.com": "accepted",
    }
    assert world.count == before


@pytest.fixture
def gpg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key of robot@example.org, in a folder whose path is short enough for the socket of its agent."""
    if shutil.which("gpg") is None or shutil.which("gpg-agent") is None:
        pytest.skip("gpg or its agent is not installed (Debian: gnupg)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("GNUPGHOME", folder)
        make = [
            "gpg",
            "--batch",
            "--passphrase",
            "",
            "--quick-gen-key",
            "robot@example.org",
            "rsa2048",
            "sign",
        ]
        subprocess.run(make, capture_output=True, check=True)
        yield
        subprocess.run(["gpgconf", "--kill", "all"], check=True)


@pytest.mark.parametrize(
    "content",
    [
        b"From: robot@example.org\r\nSubject: hello\r\n\r\nHi.\r\n",
        b"MIME-Version: 1.0\r\nSubject: hello\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n.=C3=A4\r\n..\r\n",
    ],
)
def test_gpg_takes_what_its_recipe_signed(
    gpg: None, content: bytes, world: pages.World, tmp_path: Path
) -> None:
    names = names_of("how-to/before-send.md", tmp_path)
    with pysmtpx.connect("memory://signed", before_send=names["sign_by_gpg"]) as smtp:
        smtp.send("robot@example.org", "ann@example.com", content)
    (received,) = development.mailbox("signed").messages
    development.mailbox("signed").clear()
    octets = received.content
    message = email.message_from_bytes(octets)
    assert message.get_all("MIME-Version") == ["1.0"]
    boundary = b"--" + message.get_boundary("").encode()
    assert message.get_content_type() == "multipart/signed"
    (tmp_path / "part").write_bytes(octets.split(boundary + b"\r\n")[1].removesuffix(b"\r\n"))
    (tmp_path / "part.asc").write_text(message.get_payload()[1].get_payload())  # type: ignore[index,union-attr]
    subprocess.run(["gpg", "--verify", "part.asc", "part"], capture_output=True, check=True)


def test_whoever_signs_for_several_domains_finds_the_key_whatever_their_letters(
    world: pages.World, tmp_path: Path
) -> None:
    names = names_of("how-to/dkim.md", tmp_path)
    with pysmtpx.connect("memory://dkim", before_send=names["sign"]) as smtp:
        for sender in ("robot@example.org", "robot@EXAMPLE.org", "robot@mail.example", ""):
            smtp.send(sender, "ann@example.com", b"From: robot@example.org\r\n\r\nHi.\r\n")
    starts = [each.content.startswith(b"DKIM-Signature:") for each in development.mailbox("dkim").messages]
    development.mailbox("dkim").clear()
    assert starts == [True, True, False, False]


def test_the_tests_of_the_page_on_tests_pass(tmp_path: Path) -> None:
    """As files in a project of a user's, whose pysmtpx is an installed one: nothing else is set up."""
    project = projects.project(tmp_path)
    files = [each.source for each in PAGES["how-to/tests.md"] if each.source.startswith("# ")]
    for source in files:
        (project / source.partition("\n")[0].removeprefix("# ")).write_text(source, "utf-8")
    # As pytest-django does.
    (project / "settings.py").write_text("USE_TZ = True\n", "utf-8")
    (project / "conftest.py").write_text("import django\n\ndjango.setup()\n", "utf-8")
    told = projects.run_pytest(project, DJANGO_SETTINGS_MODULE="settings")
    assert "6 passed" in told, told


def test_every_page_with_python_is_run() -> None:
    with_python = {name for name, path in ALL.items() if pages.sources_of(path)}
    assert with_python == PAGES.keys() | OF_THEIR_OWN.keys()
    assert PAGES.keys() == ARRIVED.keys()
    for name, test in OF_THEIR_OWN.items():
        assert f'"{name}"' in (pages.ROOT / "tests" / test).read_text("utf-8")


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text("utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#{1,6} (.*)$", text, re.M)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", each)).strip() for each in headings]
    return {each.lower().replace(" ", "-") for each in plain}


def _links(path: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text("utf-8"), flags=re.S | re.M)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{n}" for n in ALL)])
def test_links_lead_somewhere(name: str) -> None:
    page = pages.ROOT / name
    broken = []
    for link in _links(page):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        leaves_the_site = page.is_relative_to(pages.DOCS) and not file.is_relative_to(pages.DOCS)
        if leaves_the_site or not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(link)
    assert broken == []


def test_the_reference_has_every_public_name() -> None:
    shown = {
        name
        for path in (pages.DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: pysmtpx\.(\w+)$", path.read_text("utf-8"), re.M)
    }
    assert shown == set(pysmtpx.__all__)


@pytest.mark.parametrize(
    "package", [pysmtpx.checking, pysmtpx.oauth, pysmtpx.testing], ids=lambda each: each.__name__
)
def test_so_has_it_those_of_the_packages_that_users_import(package: Any) -> None:
    page = pages.DOCS / "reference" / f"{package.__name__.rpartition('.')[2]}.md"
    shown = re.findall(rf"^::: {re.escape(package.__name__)}\.(\w+)$", page.read_text("utf-8"), re.M)
    assert sorted(shown) == sorted(package.__all__)


def test_every_name_of_the_reference_is_there() -> None:
    """mkdocstrings would find out too, but is not everywhere."""
    for path in (pages.DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)$", path.read_text("utf-8"), re.M):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_every_page_is_in_the_site() -> None:
    listed = set(re.findall(r"^ +- ([\w/-]+\.md)$", (pages.ROOT / "mkdocs.yml").read_text("utf-8"), re.M))
    assert listed == ALL.keys()
