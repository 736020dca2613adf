"""Every public name has a type that all checkers agree on, by ``pyright --verifytypes``.

Not looked at are the backends of Django, which has no types, and what takes a
``Flask``, some attributes of which have none, and what inherits from ``smtplib``.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from support.checkers import NEEDS_CHECKERS, output

pytestmark = NEEDS_CHECKERS

MODULES = ("pysmtpx", "pysmtpx.checking", "pysmtpx.testing")
ASIDE = ("contrib", "cli")
"""Nothing of what is looked at needs them: to read Django, Celery and Flask is most of the work."""


@pytest.fixture(scope="module")
def symbols(stranger: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each symbol of the package, and what is not known of its type."""
    folder = tmp_path_factory.mktemp("verify")
    [site] = stranger.parents[1].glob("lib/*/site-packages")
    aside = {site / "pysmtpx" / name: folder / name for name in ASIDE}
    for place, other in aside.items():
        place.rename(other)
    told = json.loads(output(folder, stranger, "pyright", "--verifytypes", "pysmtpx", "--outputjson"))
    for place, other in aside.items():
        other.rename(place)
    return {
        each["name"]: ""
        if each["isTypeKnown"] and not each["isTypeAmbiguous"]
        else "; ".join(flaw["message"] for flaw in each["diagnostics"]) or "a part of it is not known"
        for each in told["typeCompleteness"]["symbols"]
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_known(module, symbols):
    found = import_module(module)
    made = [getattr(found, name) for name in found.__all__]
    homes = {f"{each.__module__}.{each.__qualname__}" for each in made if hasattr(each, "__qualname__")}
    public = {name for name in symbols if name in homes or name.rpartition(".")[0] in homes}
    assert len(public) > len(homes) / 2
    assert not {name: symbols[name] for name in public if symbols[name]}
