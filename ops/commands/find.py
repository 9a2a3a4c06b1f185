"""`twinlog find COLLECTION [FILTER]`: documents, one a line."""

from __future__ import annotations

import click

from ops.documents import document, sort_fields
from ops.refusal import refusals
from ops.target import database_name, database_option, resolve, target_options


@click.command()
@click.argument("collection")
@click.argument("filter_text", metavar="[FILTER]", default="{}")
@target_options
@database_option
@click.option("--sort", "sort_text", default="", metavar="FIELDS", help="-age,name or age:-1,name:1.")
@click.option("--skip", type=click.IntRange(min=0), default=0)
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="0: all of them.")
@click.option("--fields", "projection", default=None, metavar="PROJECTION", help='For instance {"name": 1}.')
@click.option("--count", "count_only", is_flag=True, help="Only how many match.")
@click.option("--json", "as_json", is_flag=True, help="Canonical Extended JSON, and no closing line on stderr.")
def find(
    collection: str, filter_text: str, url: str | None, key_file: str | None, database: str | None,
    sort_text: str, skip: int, limit: int, projection: str | None,
    count_only: bool, as_json: bool,  # noqa: FBT001
) -> None:
    """Print the documents of COLLECTION that match FILTER (Extended JSON, MongoDB's operators), one a line."""
    target = resolve(url, key_file)
    spec = document(filter_text, "FILTER")
    fields = document(projection, "--fields") if projection else None
    sort = sort_fields(sort_text)
    with refusals():
        from storage import to_json

        with target.connect() as client:
            documents = client[database_name(target, database)][collection]
            if count_only:
                click.echo(documents.count_documents(spec))
                return
            cursor = documents.find(spec, fields).skip(skip).limit(limit)
            if sort:
                cursor = cursor.sort(sort)
            shown = 0
            for found in cursor:
                click.echo(to_json(found, canonical=as_json))
                shown += 1
        if not as_json:
            more = " (--limit 0 shows all)" if limit and shown == limit else ""
            click.echo(f"{shown} document{'' if shown == 1 else 's'}{more}", err=True)
