"""`twinlog get COLLECTION ID`: one document by its `_id`."""

from __future__ import annotations

import click

from ops.documents import identifiers
from ops.exit_codes import ExitCode
from ops.refusal import Refusal, refusals
from ops.target import database_name, database_option, resolve, target_options


@click.command()
@click.argument("collection")
@click.argument("identifier", metavar="ID")
@target_options
@database_option
@click.option("--canonical", is_flag=True, help="Canonical Extended JSON: every type spelled out.")
def get(
    collection: str, identifier: str, url: str | None, key_file: str | None, database: str | None,
    canonical: bool,  # noqa: FBT001
) -> None:
    """Print the document of COLLECTION whose `_id` is ID.

    ID is Extended JSON (5, '"5"', '{"$oid": "..."}'); 24 hex digits are an ObjectId, other text is a string. Ends with
    exit code 8 when there is none.
    """
    target = resolve(url, key_file)
    candidates = identifiers(identifier)
    name = database_name(target, database)
    with refusals():
        from storage import to_json

        with target.connect() as client:
            for candidate in candidates:
                found = client[name][collection].find_one({"_id": candidate})
                if found is not None:
                    click.echo(to_json(found, canonical=canonical))
                    return
    raise Refusal(f"{name}.{collection} has no document with _id {identifier}", ExitCode.NOT_FOUND)
