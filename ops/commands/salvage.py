"""`twinlog salvage list|show|apply|drop`: what rewinds cut and recoveries set aside, and putting it back.

Knows how entries are shown and which node has one; what an entry is, is storage's, and applying is the client's. list and show work on the data
directory of a node that is stopped, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, finish, refusals
from ops.status import ASK_OPTIONS
from ops.tables import print_table, size
from ops.target import Target, resolve, target_options

PAGE = 500
NAMED_MAX = 50  # skipped ids shown; --json has as many as the client names
PARTS = ("documents", "deletions", "superseded")
HERE = "here"  # instead of a node's address, of a data directory

data_option = click.option("--data-dir", type=click.Path(exists=True, file_okay=False), help="A stopped node's data directory instead of a cluster.")
node_option = click.option("--node", help="The node that has it, host:port; default: whichever node of the URL has an entry of that name.")
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def salvage() -> None:
    """Look at what rewinds, recoveries and replacements set aside on each node, and put it back.

    Nothing of it is ever removed by itself.
    """


@salvage.command("list")
@target_options
@data_option
@json_option
def list_(url: str | None, key_file: str | None, data_dir: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Everything that was set aside, on every node of the URL. Exit code 3: a node does not answer."""
    if data_dir is not None:
        with refusals():
            answers = [{"node": HERE, "entries": _offline_entries(data_dir), "left_out": 0}]
    else:
        answers = list(_ask_all(resolve(url, key_file)))
    if as_json:
        click.echo(json.dumps(answers, indent=2))
    else:
        _show_list(answers)
    finish(ExitCode.UNREACHABLE if any("problem" in answer for answer in answers) else ExitCode.OK)


@salvage.command()
@click.argument("name")
@target_options
@node_option
@data_option
@click.option("--part", type=click.Choice(PARTS), default=PARTS[0], show_default=True, help="Which of its lines.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Lines at most; 0: all of them.")
@json_option
def show(
    name: str, url: str | None, key_file: str | None, node: str | None, data_dir: str | None, part: str, limit: int,
    as_json: bool,  # noqa: FBT001
) -> None:
    """What the entry NAME is, and lines of it: each with what became of the document since.

    NAME may be the end of an entry's name. With --json: the entry on the first line, then a line each.
    """
    from storage import to_json  # late: --help must not pay for the engine

    with refusals():
        if data_dir is not None:
            entry, rows = _offline_rows(data_dir, name, part)
        else:
            target = resolve(url, key_file)
            whole, address = _locate(target, name, node)
            entry, rows = _online_rows(target, whole, address, part)
        if as_json:
            click.echo(json.dumps(entry))
        else:
            _show_entry(entry)
        for number, row in enumerate(rows):
            if limit and number >= limit:
                if not as_json:
                    click.echo("... and more: --limit 0 shows all")
                break
            line = {key: row[key] for key in ("collection", "op", "epoch", "seq", "time", "now")}
            document = {"_id": row["_id"]} if row["doc"] is None else {"_id": row["_id"], "doc": row["doc"]}
            click.echo(f"{json.dumps(line)[:-1]}, {to_json(document)[1:]}")


@salvage.command()
@click.argument("name")
@target_options
@node_option
@click.option("--mode", type=click.Choice(("missing", "upsert")), default="missing", show_default=True,
              help="missing writes only documents whose _id does not exist now, upsert puts all in place whatever is there.")
@click.option("--deletes", is_flag=True, help="Also delete what the entry's commits deleted, unless it was written since (mode upsert: even then).")
@click.option("--dry-run", is_flag=True, help="Say what would be done, write nothing.")
@click.option("--db", "database", help="Into another database than the entry's own.")
@json_option
def apply(
    name: str, url: str | None, key_file: str | None, node: str | None, mode: str, deletes: bool, dry_run: bool,  # noqa: FBT001
    database: str | None, as_json: bool,  # noqa: FBT001
) -> None:
    """Write the documents of the entry NAME into the cluster, as any client would. May be repeated.

    Exit code 0: all of it is there now, 5: some ids were left as they are, each named; 1: refused on the way; 3: a node was lost.
    """
    from storage import id_json  # late: --help must not pay for the engine

    with refusals():
        target = resolve(url, key_file)
        whole, address = _locate(target, name, node)
        with target.connect() as client:
            result = client.salvage_apply(whole, address, mode=mode, deletes=deletes, dry_run=dry_run, database=database)
    counts = {"inserted": result.inserted, "replaced": result.replaced, "deleted": result.deleted, "same": result.same,
              "skipped": result.skipped_total, "overwritten": result.overwritten_total, "deletions_left": result.deletions_left}  # fmt: skip
    skipped = [{"collection": collection, "_id": id_json(value), "why": why} for collection, value, why in result.skipped]
    overwritten = [{"collection": collection, "_id": id_json(value)} for collection, value in result.overwritten]
    if as_json:
        click.echo(json.dumps({"entry": whole, "mode": mode, "dry_run": dry_run, **counts, "skipped_ids": skipped, "overwritten_ids": overwritten}))
    else:
        _show_outcome(counts, skipped, overwritten, dry_run=dry_run)
    finish(ExitCode.PARTIAL if result.skipped_total else ExitCode.OK)


@salvage.command()
@click.argument("name")
@target_options
@node_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(name: str, url: str | None, key_file: str | None, node: str | None, yes: bool) -> None:  # noqa: FBT001
    """Remove the entry NAME from the node that has it, for good."""
    target = resolve(url, key_file)
    with refusals():
        whole, address = _locate(target, name, node)
    if not yes:
        confirm(f"remove {whole} from {address} for good?")
    with refusals(), target.connect(**ASK_OPTIONS) as client:
        freed = client.salvage_drop(whole, address)
    click.echo(f"removed {whole} from {address}: {size(freed)}")


def _ask_all(target: Target) -> Iterator[dict[str, Any]]:
    """One answer a node: {node, entries, left_out}, or {node, problem}."""
    from twinlog import TwinlogError  # late: --help must not pay for it

    for host in target.hosts():
        try:
            with target.connect(**ASK_OPTIONS) as client:
                yield {"node": host, **client.salvage_list(host)}
        except TwinlogError as error:
            yield {"node": host, "problem": str(error)}


def _locate(target: Target, name: str, node: str | None) -> tuple[str, str]:
    """(whole name, node) of the one entry that is meant."""
    answers = list(_ask_all(target))
    found = [
        (entry["name"], answer["node"]) for answer in answers if node in (None, answer["node"])
        for entry in answer.get("entries", ()) if _is_meant(entry["name"], name)
    ]  # fmt: skip
    if len(found) == 1:
        return found[0]
    silent = [f"{answer['node']}: {answer['problem']}" for answer in answers if "problem" in answer]
    if found:
        places = ", ".join(f"{whole} on {address}" for whole, address in found[:10])
        raise Refusal(f"{name} may be any of {places}: say more of the name, or --node")
    if silent:
        raise Refusal(f"no entry {name!r} on the nodes that answer ({'; '.join(silent)})", ExitCode.UNREACHABLE)
    raise Refusal(f"no node of the URL has an entry {name!r}: `twinlog salvage list` shows all", ExitCode.NOT_FOUND)


def _is_meant(whole: str, name: str) -> bool:
    return whole == name or whole.endswith(f"/{name}")


def _online_rows(target: Target, name: str, node: str, part: str) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    with target.connect(**ASK_OPTIONS) as client:
        entries = [entry for entry in client.salvage_list(node)["entries"] if entry["name"] == name]
        if entries and entries[0]["kind"] != "rewind":
            return entries[0], iter(())
        first = client.salvage_show(name, node, part=part, limit=PAGE)

    def rows() -> Iterator[dict[str, Any]]:
        found = first
        with target.connect() as client:
            while True:
                yield from found["rows"]
                if found["next"] is None:
                    return
                found = client.salvage_show(name, node, part=part, offset=found["next"], limit=PAGE)

    return first["entry"], rows()


def _offline_entries(data_dir: str) -> list[dict[str, Any]]:
    from storage import OsDisk, salvage_entries  # late: --help must not pay for the engine

    return [entry.as_plain(ids=False) for entry in salvage_entries(OsDisk(data_dir))]


def _offline_rows(data_dir: str, name: str, part: str) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    from storage import OsDisk, salvage_entries, salvage_page  # late: --help must not pay for the engine

    disk = OsDisk(data_dir)
    found = [entry for entry in salvage_entries(disk) if _is_meant(entry.name, name)]
    if len(found) != 1:
        raise Refusal(f"{len(found)} entries {name!r} below {data_dir}: `twinlog salvage list --data-dir` shows all", ExitCode.NOT_FOUND)
    entry = found[0]

    def rows() -> Iterator[dict[str, Any]]:
        offset: int | None = 0 if entry.kind == "rewind" else None
        while offset is not None:
            _, page = salvage_page(disk, entry.name, part, offset, PAGE)
            for line in page.lines:
                yield {"collection": line.collection, "op": line.op, "epoch": line.epoch, "seq": line.seq, "time": line.time,
                       "now": "unknown", "_id": line.id, "doc": line.doc}  # fmt: skip
            offset = page.next_offset

    return entry.as_plain(ids=True), rows()


def _show_list(answers: list[dict[str, Any]]) -> None:
    rows, problems = [], []
    for answer in answers:
        if "problem" in answer:
            problems.append(f"! {answer['node']}: {answer['problem']}")
            continue
        rows += [_row(answer["node"], entry) for entry in answer["entries"]]
        if answer["left_out"]:
            problems.append(f"! {answer['node']}: {answer['left_out']} more entries are not shown")
    if rows:
        print_table("set aside", ("node", "name", "kind", "when", "size>", "documents>", "deletions>", "applied>"), rows)
    elif not problems:
        click.echo("nothing was set aside")
    for problem in problems:
        click.echo(problem, err=True)


def _row(node: str, entry: dict[str, Any]) -> list[str]:
    manifest = entry["manifest"] or {}
    return [node, entry["name"], entry["kind"], _when(entry["made_us"]), size(entry["bytes"]), str(manifest.get("documents", "")),
            str(manifest.get("deletions", "")), str(len(entry["applied"]) or "")]  # fmt: skip


def _when(time_us: int) -> str:
    return time.strftime("%F %T", time.localtime(time_us / 1e6)) if time_us else ""


def _show_entry(entry: dict[str, Any]) -> None:
    click.echo(f"{entry['name']}: {entry['kind']} of database {entry['database'] or '-'}, {size(entry['bytes'])}, {_when(entry['made_us'])}")
    if entry["problem"]:
        click.echo(f"! {entry['problem']}", err=True)
    if (manifest := entry["manifest"]) is not None:
        click.echo(f"common point {tuple(manifest['common'])}, cut {tuple(manifest['first'])} to {tuple(manifest['last'])}: {manifest['commits']} commits, "
                   f"{manifest['documents']} documents written, {manifest['deletions']} deleted, {manifest['superseded']} superseded")
        if not manifest["whole"]:
            click.echo(f"! not all of it could be read as commits: {manifest['why']}; log/ in the entry has the bytes", err=True)
        for change in manifest["catalog"]:
            click.echo(f"collection {change['collection']} was {change['change']} at {change['seq']}")
    for applied in entry["applied"]:
        click.echo(f"applied {_when(applied['when_us'])}: " + ", ".join(f"{key} {value}" for key, value in applied.items() if key != "when_us"))


def _show_outcome(counts: dict[str, int], skipped: list[dict[str, Any]], overwritten: list[dict[str, Any]], *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    click.echo(f"{counts['inserted']} {would}inserted, {counts['replaced']} {would}replaced, {counts['deleted']} {would}deleted, "
               f"{counts['same']} were as the entry has them, {counts['skipped']} left as they are")
    if counts["deletions_left"]:
        click.echo(f"{counts['deletions_left']} deletions of the entry were not asked for (--deletes)")
    _name(skipped, counts["skipped"], "left")
    _name(overwritten, counts["overwritten"], "overwritten, though written since:")


def _name(rows: Iterable[dict[str, Any]], total: int, word: str) -> None:
    shown = 0
    for row in list(rows)[:NAMED_MAX]:
        shown += 1
        click.echo(f"{word} {row['collection']} {json.dumps(row['_id'])}" + (f": {row['why']}" if "why" in row else ""), err=True)
    if total > shown:
        click.echo(f"... and {total - shown} more", err=True)
