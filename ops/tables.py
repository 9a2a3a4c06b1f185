"""What people see: tables, sizes, durations. Knows rich; knows nothing of Twinlog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

NOTHING = "-"
WIDEST = 10_000  # characters of a line that is piped


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One table on stdout; a name ending in '>' is aligned to the right. Piped, it is plain text of full width."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        wide = Console(highlight=False, markup=False, width=WIDEST)
        console = Console(highlight=False, markup=False, width=max(200, wide.measure(table).maximum))  # nothing is cut off
    console.print(table)


def size(count: int | None) -> str:
    """Bytes for people: 1536 is 1.5 KiB."""
    if count is None:
        return NOTHING
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{int(amount)} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("the loop returns at its last unit")


def seconds(amount: float | None) -> str:
    return NOTHING if amount is None else f"{amount:.1f} s"


def number(amount: int | None) -> str:
    return NOTHING if amount is None else str(amount)


def short_hash(digest: str | None) -> str:
    """The first 12 digits are enough to compare by eye; --json has them all."""
    return digest[:12] if digest else NOTHING


def yes_no(fact: bool | None) -> str:  # noqa: FBT001
    return NOTHING if fact is None else "yes" if fact else "no"
