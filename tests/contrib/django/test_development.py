"""A project that sends into this process while it is developed."""

from __future__ import annotations

import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from support.django_site import Site

from pysmtpx.development import mailbox


def test_mail_goes_to_a_mailbox_of_this_process(site: Site) -> None:
    box = mailbox("django")
    box.clear()
    site.use(host="memory://django")
    message = mail.EmailMessage("hi", "text", "ann@x.example", ["bob@x.example"])
    assert site.connection().send_messages([message]) == 1
    assert [message.addresses for message in box.messages] == [["bob@x.example"]]


def test_tls_would_not_be_used_and_is_refused(site: Site) -> None:
    site.use(host="memory://django", use_tls=True)
    with pytest.raises(ImproperlyConfigured, match="takes no tls"):
        site.connection()
