"""ESMTP parameters in lists of text, as smtplib has them."""

from __future__ import annotations

from typing import Any

import pytest

from pysmtpx import DeliverBy, InputError, MailFromParams, RcptToParams
from pysmtpx.contrib.flask.esmtp_options import mail_params, rcpt_params


@pytest.mark.parametrize(
    ("options", "params"),
    [
        (["SIZE=12"], MailFromParams(size=12)),
        (["body=8bitmime", "smtputf8"], MailFromParams(body="8BITMIME", smtputf8=True)),
        (["RET=FULL", "ENVID=a+2Bb+3D"], MailFromParams(ret="FULL", envid="a+b=")),
        (["AUTH=<>"], MailFromParams(auth="<>")),
        (["AUTH=e+2Bx@example.com"], MailFromParams(auth="e+x@example.com")),
        (["REQUIRETLS", "MT-PRIORITY=-3"], MailFromParams(requiretls=True, mt_priority=-3)),
        (["HOLDFOR=60"], MailFromParams(holdfor=60)),
        (["HOLDUNTIL=2030-01-01T00:00:00Z"], MailFromParams(holduntil="2030-01-01T00:00:00Z")),
        (["BY=120;R"], MailFromParams(by=DeliverBy(120, "R"))),
        (["by=-120;nt"], MailFromParams(by=DeliverBy(-120, "N", trace=True))),
        (["X-MINE=1", "X-FLAG"], MailFromParams(extra={"X-MINE": "1", "X-FLAG": None})),
        ((), None),
    ],
)
def test_parameters_of_mail(options: list[str], params: MailFromParams | None) -> None:
    assert mail_params(options) == params
    if params is not None:  # what was read is what is written
        written = [keyword if value is None else f"{keyword}={value}" for keyword, value in params.items()]
        assert mail_params(written) == params


@pytest.mark.parametrize(
    ("options", "params"),
    [
        (["NOTIFY=success,failure"], RcptToParams(notify=("SUCCESS", "FAILURE"))),
        (["ORCPT=rfc822;a+2Bb@example.com"], RcptToParams(orcpt="rfc822;a+b@example.com")),
        (
            ["ORCPT=rfc822;a+2Bb@example.com", "NOTIFY=NEVER"],
            RcptToParams(notify="NEVER", orcpt="a+b@example.com"),
        ),
        (["RRVS=2020-01-01T00:00:00Z;C"], RcptToParams(rrvs="2020-01-01T00:00:00Z;C")),
        (["X-MINE=1"], RcptToParams(extra={"X-MINE": "1"})),
        ([], None),
    ],
)
def test_parameters_of_rcpt(options: list[str], params: RcptToParams | None) -> None:
    read = rcpt_params(options)
    assert (None if read is None else read.items()) == (None if params is None else params.items())


@pytest.mark.parametrize(
    "options",
    [
        "SIZE=1",
        [b"SIZE=1"],
        ["SIZE"],
        ["SIZE=1.5"],
        ["SIZE=١"],
        ["SIZE=1", "size=1"],
        ["BODY"],
        ["RET=ALL"],
        ["ENVID="],
        ["ENVID=a+0D+0Ab"],
        ["SMTPUTF8=yes"],
        ["BY=1"],
        ["BY=0;R"],
        ["HOLDFOR=0"],
        ["HOLDFOR=1", "HOLDUNTIL=2030-01-01T00:00:00Z"],
        ["X\r\nDATA"],
        ["X=a b"],
        [""],
    ],
)
def test_what_no_rfc_allows(options: Any) -> None:
    with pytest.raises(InputError):
        mail_params(options)
