"""Filters: one language, one meaning, on every engine.

``ast`` holds the nodes, ``build`` and ``parse`` the two spellings, ``evaluate`` the meaning, ``visit`` what every
compiler is made of.
"""

from memstack.filters.ast import (
    FINGERPRINT,
    NAME,
    OWN,
    PLACE,
    WORD,
    And,
    Compare,
    Contains,
    Eq,
    Exists,
    IContains,
    In,
    Node,
    Not,
    Or,
)
from memstack.filters.build import F, Field
from memstack.filters.evaluate import evaluate, resolve
from memstack.filters.parse import parse
from memstack.filters.visit import Compiled, FilterCompiler, FilterVisitor, Plan, fields_of

__all__ = [
    "FINGERPRINT",
    "NAME",
    "OWN",
    "PLACE",
    "WORD",
    "And",
    "Compare",
    "Compiled",
    "Contains",
    "Eq",
    "Exists",
    "F",
    "Field",
    "FilterCompiler",
    "FilterVisitor",
    "IContains",
    "In",
    "Node",
    "Not",
    "Or",
    "Plan",
    "evaluate",
    "fields_of",
    "parse",
    "resolve",
]
