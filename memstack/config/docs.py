"""What the options mean, read from the docstrings under the fields.

pydantic can do that (``use_attribute_docstrings``), but when each class is made, which doubles the time that importing
memstack takes. Here it is done when somebody asks.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import lru_cache

from pydantic import BaseModel

__all__ = ["descriptions"]


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The description of each option of a model, on one line.

    Args:
        model: a section, ours or a third party's.

    Returns:
        Descriptions by the option's name; an option without any, or whose source is not at hand, is left out.
    """
    found = {}
    for name, field in model.model_fields.items():
        classes = (_docstrings(base.__module__).get(base.__qualname__, {}) for base in model.__mro__)
        text = field.description or next((documented[name] for documented in classes if name in documented), None)
        if text:
            found[field.alias or name] = " ".join(text.split())
    return found


@lru_cache(maxsize=64)
def _docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """The docstrings under the fields of the top-level classes of a module."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):  # no source: a built-in, a frozen application
        return {}
    return {node.name: _fields(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _fields(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for statement, following in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            found[statement.target.id] = following.value.value
    return found
