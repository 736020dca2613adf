"""Options and exports."""

from __future__ import annotations

import dataclasses
import smtplib
import textwrap

import pysmtpx.testing
from pysmtpx.testing import Config
from pysmtpx.testing.config import Options


def test_every_field_of_config_is_an_option() -> None:
    assert Options.__annotations__.keys() == {field.name for field in dataclasses.fields(Config)}
    types = {field.name: field.type for field in dataclasses.fields(Config)}
    assert {name: ref.__forward_arg__ for name, ref in Options.__annotations__.items()} == types


def test_every_export_is_there() -> None:
    assert all(hasattr(pysmtpx.testing, name) for name in pysmtpx.testing.__all__)


def test_the_example_of_the_package_runs() -> None:
    example = (pysmtpx.testing.__doc__ or "").partition("::\n")[2].partition("\n\nWithout")[0]
    assert "assert message.delivered" in example
    exec(textwrap.dedent(example.strip("\n")), {"smtplib": smtplib, "MailServer": pysmtpx.testing.MailServer})
