"""`python -m tests.query.long --examples 100000 --seed 7`: every property at length; prints counts and the first difference, shrunk."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, seed, settings

from tests.engine import naive_world
from tests.query.properties import PURE

EVERYTHING = {**PURE, **naive_world.PROPERTIES}


def run(name: str, prop: Callable[[], None], examples: int, chosen: int) -> bool:
    """One property with that many examples; whether it held."""
    asked = 0
    inner = prop.hypothesis.inner_test

    def counted(*args: object, **kwargs: object) -> None:
        nonlocal asked
        asked += 1
        inner(*args, **kwargs)

    prop.hypothesis.inner_test = counted
    chosen_settings = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    begun = time.perf_counter()
    try:
        seed(chosen)(chosen_settings(prop))()
    except AssertionError as difference:
        print(f"{name}: DIFFERENCE after {asked:,} examples{difference}")  # noqa: T201
        return False
    finally:
        prop.hypothesis.inner_test = inner
    print(f"{name}: {asked:,} examples agree, {time.perf_counter() - begun:.0f} s")  # noqa: T201
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, help="of each property")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--only", default="", help="properties whose name holds this")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")  # noqa: T201
    named = [(name, prop) for name, prop in EVERYTHING.items() if chosen.only in name]
    held = [run(name, prop, chosen.examples, chosen.seed) for name, prop in named]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
