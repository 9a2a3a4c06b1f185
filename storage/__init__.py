"""The shard engine: documents in append-only logs, checkpoints, recovery, views. Knows no peer, no role, no socket, no config.

This is the package's face: everything other packages may use is named here, and nothing else is imported from outside.
"""

from __future__ import annotations

from . import errors, native, operations
from .advance import Advance
from .backing_up import Backups, Restored, Turnover
from .backup.bucket import check_client as check_bucket_client
from .backup.dependents import sound_names as sound_backups
from .backup.log_archive import target_of as restore_target
from .backup.names import check_name as check_backup_name
from .backup.places import check_path as check_backup_place
from .backup.places import is_bucket, sealed_reader
from .backup.places import is_same as is_same_place
from .backup.reading import IDS_MAX as BACKUP_IDS_MAX
from .backup.reading import Place as BackupPlace
from .backup.seal_keys import read_key_file as read_backup_keys
from .backup.seal_keys import refuse_sealed
from .backup.seal_keys import write_key_file as write_backup_key
from .backup.shelf import BACKUPS as BACKUPS_DIRECTORY
from .backup.shelf import BackupInfo
from .backup.verifying import Level as VerifyLevel
from .backup.verifying import is_backup_directory, verify_backup
from .check import check_database, check_node, database_names
from .commit.codec import DOCUMENT_BYTES_MAX, decode_head, frames_until
from .database import Database
from .disk import Disk, File, OsDisk
from .disk_memory import MemoryDisk
from .engine import Engine
from .errors import *  # noqa: F403
from .exchange.extjson import parse_line as parse_json_line
from .exchange.extjson import to_json
from .exchange.jsonl import BadLine, read_documents
from .finding import Finding, Severity
from .keeping import Hold, release_hold, take_hold
from .keeping import holds as active_holds
from .load import Load, load_of
from .names import SYSTEM_DATABASE, check_collection_name, check_database_name
from .operations import COLD, Cursor, WriteError, WriteResult
from .options import EngineOptions, SyncMode
from .position import History, Position, Reign, history_from_lists
from .query.filters import compile_filter
from .repairing import Source as RecordSource
from .repairing import Wanted as WantedRecord
from .repairing import find_record
from .salvage.entry import PARTS as SALVAGE_PARTS
from .salvage.entry import id_json
from .salvage.shelf import PAGE_ROWS_MAX as SALVAGE_ROWS_MAX
from .salvage.shelf import entries as salvage_entries
from .salvage.shelf import page as salvage_page
from .scrubbing import ScrubReport
from .seams import Seams, Workers, WorkHere, real_seams, wall_clock_us
from .seeding import PinnedCheckpoint, SeedTarget
from .shard.record import ShardRecord
from .time_budget import TimeBudget
from .values.documents import decode as decode_document
from .values.documents import decode_all as decode_documents
from .values.documents import decode_value, encode_value
from .values.documents import encode as encode_document
from .values.documents import prepare as prepare_documents
from .values.keys import canonical
from .views import View
from .worker import BACKUP_LOCK_FILE, BACKUP_READ_LOCK_FILE, INDEX_LOCK_FILE, BriefWorkers, WorkerProcess

__all__ = [
    "COLD",
    "DOCUMENT_BYTES_MAX",
    "SYSTEM_DATABASE",
    "Advance",
    "BACKUPS_DIRECTORY",
    "BACKUP_IDS_MAX",
    "BackupInfo",
    "BackupPlace",
    "Backups",
    "Restored",
    "Turnover",
    "VerifyLevel",
    "check_backup_name",
    "check_backup_place",
    "check_bucket_client",
    "is_bucket",
    "is_same_place",
    "read_backup_keys",
    "refuse_sealed",
    "sealed_reader",
    "write_backup_key",
    "BadLine",
    "Cursor",
    "Database",
    "Disk",
    "Engine",
    "EngineOptions",
    "File",
    "Finding",
    "History",
    "Load",
    "Hold",
    "MemoryDisk",
    "OsDisk",
    "PinnedCheckpoint",
    "Position",
    "RecordSource",
    "SALVAGE_PARTS",
    "SALVAGE_ROWS_MAX",
    "Reign",
    "ScrubReport",
    "Seams",
    "SeedTarget",
    "ShardRecord",
    "Severity",
    "SyncMode",
    "TimeBudget",
    "View",
    "WantedRecord",
    "WorkHere",
    "BACKUP_LOCK_FILE",
    "BACKUP_READ_LOCK_FILE",
    "BriefWorkers",
    "INDEX_LOCK_FILE",
    "WorkerProcess",
    "Workers",
    "WriteError",
    "WriteResult",
    "active_holds",
    "canonical",
    "check_collection_name",
    "check_database",
    "is_backup_directory",
    "sound_backups",
    "verify_backup",
    "check_database_name",
    "check_node",
    "database_names",
    "compile_filter",
    "decode_document",
    "decode_documents",
    "decode_head",
    "decode_value",
    "encode_document",
    "find_record",
    "frames_until",
    "encode_value",
    "errors",
    "history_from_lists",
    "id_json",
    "load_of",
    "native",
    "operations",
    "parse_json_line",
    "prepare_documents",
    "read_documents",
    "real_seams",
    "release_hold",
    "restore_target",
    "salvage_entries",
    "salvage_page",
    "take_hold",
    "to_json",
    "wall_clock_us",
    *errors.BY_NAME,
]
