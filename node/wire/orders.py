"""The requests about a node itself and its cluster: status, promotion, switchover, fencing, scrub, salvage. messages.py says how they are encoded. Pure."""

from __future__ import annotations

from .request import BatchRows, Name, Natural, Request


class Status(Request, tag="status"):
    """The node's view of itself and its peers; with mark, after writing a MARK and comparing hashes there."""

    mark: bool = False


class Promote(Request, tag="promote"):
    """Make this node the primary of a new epoch. force: even if commits are known to be missing. automatic: a program asks, and not an
    operator: refused while the cluster is paused."""

    force: bool = False
    automatic: bool = False


class Switchover(Request, tag="switchover"):
    """On the primary: hand its office over to a standby, which must reach its position within timeout_ms, or leave all as it is."""

    to: str
    timeout_ms: int = 10_000
    automatic: bool = False


class Fence(Request, tag="fence"):
    """This node takes no writes, leads and follows nobody and cannot be promoted until Unfence.

    Answer: {role, epoch, was: its role before, lacking: {standby: commits that it is known to lack}}.
    """

    why: Name = ""


class Unfence(Request, tag="unfence"):
    """Back to work: primary again where it was and nobody else took the office, else a standby. Answer: {role, epoch}."""


class Rejoin(Request, tag="rejoin"):
    """A fenced, frozen or stopped node becomes a standby of the primary that it hears. reseed: its copies are replaced, the old ones
    salvaged. Answer: {role, epoch}; what becomes of its copies stands in the primary's status."""

    reseed: bool = False


class Reseed(Request, tag="reseed"):
    """Replace this standby's copy of one database from the primary; the old one is salvaged. Answer: {}."""

    db: Name


class Pause(Request, tag="pause"):
    """Every node refuses what is asked `automatic`ally. Answer: {paused: {since_us, why} or nil, reached: [node, ...], missing: [node, ...]}."""

    why: Name = ""


class Resume(Request, tag="resume"):
    """The end of Pause. Answer as Pause's."""


class RoleHistory(Request, tag="rolehistory"):
    """Answer: {node, changes: [{number, time_us, role, epoch, why}, ...] oldest first, let_go, unreadable,
    reigns: {db: [{epoch, id, first_seq}, ...]}}."""


class Check(Request, tag="check"):
    """What a failover is decided by, as this node knows it: {node, role, epoch, paused, acks, on_ack_timeout, protected, why_not, missing_commits,
    primary: nil or {node, epoch, connected, heard_s_ago}, lag: nil or {commits, bytes, seconds},
    standbys: {name: {fenced, promotable, why_not, lacks: commits or nil}}}."""


class Scrub(Request, tag="scrub"):
    """The newest pass of this node's scrub over a database, and what is damaged now. begin: after beginning a pass, unless one runs.

    wait_ms: answer when no pass is under way any more, or after so long (at most SCRUB_WAIT_MS_MAX). Answer: {running, began_us, ended_us,
    files, bytes, findings: [{severity, file, offset, what, next_step}, ...], findings_left_out, passes, repaired, damaged: as findings}.
    """

    db: Name
    begin: bool = True
    wait_ms: Natural = 0


SCRUB_WAIT_MS_MAX = 10_000


class SalvageList(Request, tag="salvagelist"):
    """What this node set aside. Answer: {entries: [{name, kind, database, bytes, files, made_us, manifest, applied, problem}, ...], left_out}."""


class SalvageShow(Request, tag="salvageshow"):
    """One entry, and lines of a part of it (documents, deletions, superseded) from an offset that an answer before gave.

    Answer: {entry, rows: [{collection, op, epoch, seq, time, id, doc, now}, ...], next: offset or nil}; id and doc as bytes of MessagePack."""

    name: Name
    part: Name = "documents"
    offset: Natural = 0
    limit: BatchRows = 0


class SalvageNote(Request, tag="salvagenote"):
    """Remember in an entry that it was applied, and what came of it. Answer: {}."""

    name: Name
    facts: dict[Name, str | int | bool]


class SalvageDrop(Request, tag="salvagedrop"):
    """Remove an entry for good. Answer: {bytes}."""

    name: Name
