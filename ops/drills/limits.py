"""What a drill may measure: a targets file's text to limits, and a verdict against them. Pure.

The file's form is told at its head (targets.yaml, the one that is shipped). Errors name the path in it, the value and the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from .scenarios import SCENARIOS
from .verdict import MEASURES

FORMAT = 1
TARGET_NAMES = ("local", "compose", "kubernetes")
WITHOUT_ACKS = "acks-0"
LAYERS = (WITHOUT_ACKS, *TARGET_NAMES)


class BadLimits(Exception):
    """A targets file breaks its form; the message says where."""


@dataclass(frozen=True, slots=True)
class Limit:
    """least: the value is a lower bound."""

    measure: str
    value: float
    least: bool = False

    def __str__(self) -> str:
        return f"{self.measure} {'>=' if self.least else '<='} {self.value:g}"

    def why_missed(self, measured: float | None) -> str | None:
        """None when it is kept. What could not be measured keeps no limit."""
        if measured is None:
            return f"{self.measure} could not be measured; the limit is {'at least' if self.least else 'at most'} {self.value:g}"
        if self.least and measured < self.value:
            return f"{self.measure} is {measured:g}, less than {self.value:g}"
        if not self.least and measured > self.value:
            return f"{self.measure} is {measured:g}, more than {self.value:g}"
        return None


def read_limits(text: str, where: str, *, scenario: str, target: str, acks: int) -> tuple[Limit, ...]:
    """The limits of one drill. where: the file's name, for errors. The whole file is checked. Raises BadLimits."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadLimits(f"{where} is not valid YAML: {error}") from error
    root = _mapping(content, where)
    if root.get("format") != FORMAT:
        raise BadLimits(f"{where}: format: {root.get('format')!r} must be {FORMAT}")
    unknown = set(root) - {"format", "every", "scenarios"}
    if unknown:
        raise BadLimits(f"{where}: {sorted(unknown)[0]}: must be one of format, every, scenarios")
    scenarios = _mapping(root.get("scenarios") or {}, f"{where}: scenarios")
    strangers = set(scenarios) - set(SCENARIOS)
    if strangers:
        raise BadLimits(f"{where}: scenarios.{sorted(strangers)[0]}: there is no such scenario; there are {', '.join(SCENARIOS)}")
    sections = {name: _section(section, f"{where}: scenarios.{name}") for name, section in scenarios.items()}
    every = _section(root.get("every") or {}, f"{where}: every")
    if scenario not in sections:
        raise BadLimits(f"{where}: scenarios.{scenario}: is missing; without limits a drill proves nothing")
    found: dict[str, Limit | None] = {}
    layers = ("", *((WITHOUT_ACKS,) if acks == 0 else ()), target)
    for layer in layers:
        for section in (every, sections[scenario]):
            found.update(section.get(layer, {}))
    return tuple(limit for limit in found.values() if limit is not None)


def missed(limits: tuple[Limit, ...], measures: Mapping[str, float | None]) -> tuple[str, ...]:
    """Each limit that is not kept, in words."""
    return tuple(why for limit in limits if (why := limit.why_missed(measures[limit.measure])) is not None)


def _section(content: Any, path: str) -> dict[str, dict[str, Limit | None]]:
    """Layer -> measure -> limit; "" is what holds without a layer."""
    plain = _mapping(content, path)
    layers = {"": {name: _limit(name, value, path) for name, value in plain.items() if name not in LAYERS}}
    for layer in LAYERS:
        if layer in plain:
            inner = _mapping(plain[layer], f"{path}.{layer}")
            layers[layer] = {name: _limit(name, value, f"{path}.{layer}") for name, value in inner.items()}
    return layers


def _limit(name: str, value: Any, path: str) -> Limit | None:
    if name not in MEASURES:
        raise BadLimits(f"{path}.{name}: is no measure; there are {', '.join(MEASURES)}")
    if value is None:
        return None
    least = isinstance(value, dict)
    if least and set(value) != {"least"}:
        raise BadLimits(f"{path}.{name}: {value!r} must be a number, or {{least: number}}")
    number = value["least"] if least else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < float("inf"):
        raise BadLimits(f"{path}.{name}: {number!r} must be a number of at least 0")
    return Limit(name, float(number), least)


def _mapping(content: Any, path: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise BadLimits(f"{path}: {content!r} must be a mapping")
    return content
