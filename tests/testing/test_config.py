"""Options and exports."""

from __future__ import annotations

import dataclasses

import pysmtpx.testing
from pysmtpx.testing import Config
from pysmtpx.testing.config import Options


def test_every_field_of_config_is_an_option() -> None:
    assert Options.__annotations__.keys() == {field.name for field in dataclasses.fields(Config)}
    types = {field.name: field.type for field in dataclasses.fields(Config)}
    assert {name: ref.__forward_arg__ for name, ref in Options.__annotations__.items()} == types


def test_every_export_is_there() -> None:
    assert all(hasattr(pysmtpx.testing, name) for name in pysmtpx.testing.__all__)
