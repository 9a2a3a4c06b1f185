"""`twinlog backup get NAME`: documents out of a backup, without restoring it; what comes out `twinlog import` puts back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from ops.documents import document, identifiers
from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish
from ops.streams import STANDARD, writing
from ops.tables import number, print_table

from .asking import asked, backup_options, node_option

FORMATS = ("jsonl", "json", "mongo", "bson")
BATCH_DOCUMENTS = 500  # made into text at a time


@click.command()
@click.argument("name")
@backup_options
@node_option
@click.option("--list", "only_list", is_flag=True, help="Only say which collections are in it, and how many documents each has.")
@click.option("--collection", help="Whose documents.")
@click.option("--id", "ids", multiple=True, metavar="JSON", help="The document with that _id, by the backup's index; may be given again.")
@click.option("--filter", "filter_text", default=None, metavar="JSON", help="Documents that match (Extended JSON, MongoDB's operators).")
@click.option("--limit", type=click.IntRange(min=0), default=0, show_default=True, help="0: all of them.")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="jsonl", show_default=True)
@click.option("-o", "--output", "out", default=STANDARD, show_default=True, metavar="FILE", help="Where to; .gz and .zst are packed. A file that exists is refused.")
def get(
    name: str, url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None, only_list: bool,  # noqa: FBT001
    collection: str | None, ids: tuple[str, ...], filter_text: str | None, limit: int, kind: str, out: str,
) -> None:
    """Write documents of the backup NAME to stdout or a file; nothing is restored, and each record is checked.

    Exit code 0: done, 8: no such _id is in it, 5: some of the given ones are not and each is named, 1: there is no such backup or collection, or it is damaged.
    """
    if not only_list and collection is None:
        raise Refusal("say whose documents: --collection NAME, or --list for what is in it", ExitCode.USAGE)
    spec = None if filter_text is None else document(filter_text, "--filter")
    with asked(url, key_file, database) as db:
        if only_list:
            show(name, db.backup_collections(name, node), as_json=as_json)
            return
        missing: list[str] = []
        if ids:
            found = _by_ids(db, name, collection, spec, node, ids[: limit or None], missing)
        else:
            found = db.backup_documents(name, collection, spec, limit=limit, node=node)
        count = write(found, collection or "", kind, out)
    for one in missing:
        click.echo(f"twinlog: {collection} in {name} has no document with _id {one}", err=True)
    click.echo(json.dumps({"documents": count, "missing": missing}) if as_json else f"{number(count)} documents of {name}", err=True)
    finish(ExitCode.OK if not missing else ExitCode.PARTIAL if count else ExitCode.NOT_FOUND)


def _by_ids(db: Any, name: str, collection: str | None, spec: Any, node: str | None, ids: Iterable[str], missing: list[str]) -> Iterator[dict[str, Any]]:
    """What each text most likely means; texts of which there is no document go to missing."""
    for text in ids:
        found = list(db.backup_documents(name, collection, spec, ids=identifiers(text), limit=1, node=node))
        if not found:
            missing.append(text)
        yield from found


def write(found: Iterable[dict[str, Any]], collection: str, kind: str, out: str) -> int:
    """Returns how many. The first page is asked for before the file is made, so that what is refused leaves none behind."""
    from storage.exchange import Asked, Format, Writer  # late: --help must not pay for it

    documents = iter(found)
    ready = list(islice(documents, BATCH_DOCUMENTS))
    count = 0
    with writing(out) as stream:
        writer = Writer(Asked(format=Format(kind), collections=[collection], created_at=""))
        stream.write(writer.begin())
        stream.write(writer.collection(collection))
        while ready:
            stream.write(writer.documents(ready))
            count += len(ready)
            ready = list(islice(documents, BATCH_DOCUMENTS))
        stream.write(writer.end())
    return count


def show(name: str, found: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_table(f"collections in {name}", ("collection", "documents>"), [[one, number(count)] for one, count in found.items()])
