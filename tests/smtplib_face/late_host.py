"""The standard ``smtplib`` as Python 3.14.5 and later have it: ``_host`` is set in ``connect()`` alone.

To be imported before anything else that imports ``smtplib``. Made of the module
that is installed; where that is one of these already, it stays as it is.
"""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec, module_from_spec

_SET = "self._host = host"


def _source() -> str:
    spec = find_spec("smtplib")
    assert spec is not None
    return str(spec.loader.get_source("smtplib"))  # type: ignore[union-attr]


def moved(source: str) -> ast.Module:
    """The tree of the module, with the assignment in its new place."""
    tree = ast.parse(source)
    (kind,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "SMTP")
    methods = {node.name: node.body for node in kind.body if isinstance(node, ast.FunctionDef)}
    constructor, connect = methods["__init__"], methods["connect"]
    if any(ast.unparse(each) == _SET for each in connect):
        return tree
    (old,) = (each for each in constructor if ast.unparse(each) == _SET)
    constructor.remove(old)
    # Behind the statement that splits "host:port".
    (place,) = (i for i, each in enumerate(connect) if ast.unparse(each).startswith("if not port and"))
    connect.insert(place + 1, old)
    return tree


def load() -> None:
    """Put it in the place of ``smtplib``."""
    assert "smtplib" not in sys.modules
    spec = find_spec("smtplib")
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules["smtplib"] = module
    exec(compile(ast.fix_missing_locations(moved(_source())), str(spec.origin), "exec"), vars(module))
    assert not hasattr(module.SMTP(local_hostname="me.example"), "_host")


load()
