"""`twinlog insert COLLECTION DOCUMENT...`: a few documents by hand; `import` is for files."""

from __future__ import annotations

import click

from ops.documents import document
from ops.refusal import refusals
from ops.target import database_name, database_option, resolve, target_options


@click.command()
@click.argument("collection")
@click.argument("documents", nargs=-1, required=True, metavar="DOCUMENT...")
@target_options
@database_option
def insert(collection: str, documents: tuple[str, ...], url: str | None, key_file: str | None, database: str | None) -> None:
    """Insert each DOCUMENT (Extended JSON) into COLLECTION and print its `_id`, one a line, as Extended JSON.

    In order, stopping at the first that is refused.
    """
    target = resolve(url, key_file)
    parsed = [document(text, f"document {number}") for number, text in enumerate(documents, 1)]
    with refusals():
        from storage import to_json

        with target.connect() as client:
            result = client[database_name(target, database)][collection].insert_many(parsed)
        for inserted_id in result.inserted_ids:
            click.echo(to_json({"_id": inserted_id}))
