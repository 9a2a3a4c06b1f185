"""How much a request asks for: what to compile or to run where nobody waits for it. Pure.

Costs: what is small is counted in a microsecond or two; counting ends as soon as the bound is passed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any, Final

from bson import Regex

from .regex import Matcher
from .tree import And, Node, Nor, Not, Or, Test, Whole

CONDITIONS_MAX = 32  # that a document of a scan may be asked on the loop
TEXT_SHIFT: Final = 4  # 16 characters weigh as much as a value: a pattern of a thousand is compiled in 2 ms
_NONE: Final = frozenset[str]()
_LIGHT: Final = frozenset((int, float, bool, type(None)))  # that weigh 1 each
LOOPING: Final = frozenset(  # operators that may take long over one document, or over their own arguments
    ("$map", "$filter", "$reduce", "$range", "$zip", "$let", "$regexMatch", "$regexFind", "$regexFindAll", "$regex", "$replaceAll", "$in", "$indexOfArray")
    + ("$setUnion", "$setIntersection", "$setDifference", "$setIsSubset", "$setEquals", "$sortArray")
)
CONSTANT_LOOPS: Final = frozenset(("$map", "$filter", "$reduce", "$range", "$zip"))  # with constants only, they run when they are compiled


def is_heavier(most: int, *specs: Any, heavy: Set[str] = _NONE) -> bool:
    """Whether the specs hold more than so many values and keys, or any of the heavy keys."""
    left = most
    waiting: list[Any] = list(specs)
    while waiting:
        value = waiting.pop()
        left -= 1
        if isinstance(value, str):
            left -= len(value) >> TEXT_SHIFT
        elif isinstance(value, Mapping):
            left -= len(value)
            if left >= 0:
                if heavy and not heavy.isdisjoint(value):
                    return True
                waiting += value.values()
        elif isinstance(value, (list, tuple)):
            if len(value) > left:
                return True
            others = [one for one in value if type(one) not in _LIGHT]
            left -= len(value) - len(others)
            waiting += others
        elif isinstance(value, (Regex, re.Pattern)):
            left -= len(value.pattern) >> TEXT_SHIFT
        if left < 0:
            return True
    return False


def is_slow(tree: Node) -> bool:
    """Whether a document may take more than some 20 µs: many conditions, an expression or a regular expression that backtracks."""
    waiting = [tree]
    for count, node in enumerate(waiting):
        if count > CONDITIONS_MAX or isinstance(node, Whole):
            return True
        if isinstance(node, (And, Or, Nor)):
            waiting += node.parts[: CONDITIONS_MAX + 1]
        elif isinstance(node, Not):
            waiting.append(node.part)
        elif isinstance(node, Test):
            if isinstance(node.argument, Matcher) and node.argument.is_slow:
                return True
            if node.parts is not None:
                waiting.append(node.parts)
    return False
