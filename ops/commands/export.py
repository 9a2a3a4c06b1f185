"""`twinlog export`: collections as a stream of documents that other programs read."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from ops.refusal import Refusal, refusals
from ops.streams import STANDARD, unpacked_name, writing
from ops.target import database_name, database_option, resolve, target_options

FORMATS = ("alos", "jsonl", "json", "mongo", "zip", "skv", "bson")


@click.command()
@click.argument("collections", nargs=-1, metavar="[COLLECTION]...")
@target_options
@database_option
@click.option("-o", "--out", default=STANDARD, show_default=True, metavar="FILE", help="Where to; .gz and .zst are packed. A file that exists is refused.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: by FILE's ending; else jsonl for one collection, alos for more.")
@click.option("--pretty", is_flag=True, help="json only: two blanks a level.")
@click.option("--canonical", is_flag=True, help="Canonical Extended JSON: every type spelled out.")
@click.option("--dump", type=click.Path(file_okay=False), metavar="DIR", help="Write mongodump's directory instead: DIR/<db>/<collection>.bson and .metadata.json.")
@click.option("--gzip", "packed", is_flag=True, help="With --dump: each file packed, as mongodump --gzip.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON, on stderr.")
def export(
    collections: tuple[str, ...], url: str | None, key_file: str | None, database: str | None, out: str, kind: str | None,
    pretty: bool, canonical: bool, dump: str | None, packed: bool, as_json: bool,  # noqa: FBT001
) -> None:
    """Write one COLLECTION, several, or without any the whole database.

    One collection's jsonl, json and mongo files hold nothing but documents; mongoimport reads mongo files. Several have a header and say which
    collection each document belongs to; `twinlog import` reads them all.
    """
    target = resolve(url, key_file)
    with refusals(), target.connect() as client:
        began = time.perf_counter()  # as an import's clock: what loading the client's modules takes is no part of it
        db = client[database_name(target, database)]
        known = db.list_collection_names()
        if missing := [name for name in collections if name not in known]:
            raise Refusal(f"there is no collection {missing[0]!r} in {db.name}; there are {', '.join(known) or 'none'}")
        if dump is not None:
            counts = db.export_dump(dump, collections=collections, packed=packed)
            tell(f"{db.name} -> {dump}", {"file": dump, "format": "dump", "documents": sum(counts.values()), "collections": counts}, began, as_json=as_json)
            return
        chosen = kind or kind_of(out, is_one=len(collections) == 1)
        with writing(out) as stream:
            if len(collections) == 1:
                count = db.export_collection(stream, collections[0], chosen, pretty=pretty, canonical=canonical)
            else:
                count = db.export_database(stream, chosen, collections=collections, pretty=pretty, canonical=canonical)
    what = f"{db.name}{'.' + collections[0] if len(collections) == 1 else ''} -> {out}"
    tell(what, {"file": out, "format": chosen, "documents": count}, began, as_json=as_json)


def tell(what: str, summary: dict, began: float, *, as_json: bool) -> None:
    """On stderr: stdout may be the export itself."""
    took = time.perf_counter() - began
    if as_json:
        click.echo(json.dumps({**summary, "seconds": round(took, 3)}), err=True)
    else:
        click.echo(f"{what}: {summary['documents']:,} documents as {summary['format']} in {took:.1f} s", err=True)


def kind_of(out: str, *, is_one: bool) -> str:
    """The format that the output's name says, else the usual one."""
    from storage.exchange import EXTENSIONS

    found = EXTENSIONS.get(Path(unpacked_name(out)).suffix.lower())
    return found.value if found is not None else "jsonl" if is_one else "alos"
