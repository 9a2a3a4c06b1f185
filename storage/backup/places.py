"""Where shelves and archives are: the roots that orders carry, and the Disk that each of them means.

    ""                     the engine's own disk                   sealed:KEY FILE:ROOT   the same, encrypted with the keys of that file
    /mnt/vault             a directory of this machine             (signs other than those of a path are %-escaped in its name)
    s3://bucket/prefix?..  a bucket, backup/bucket_address.py

A root is text, so that it goes to worker processes as it is and each opens it there: connections and keys are of the process that uses them. It names a key file and
holds no secret.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from ..disk import Disk, OsDisk
from ..errors import BadRequest
from . import bucket_address
from .bucket import BucketDisk
from .bucket_address import is_bucket
from .seal_keys import KeyFile, read_key_file
from .sealed import SealedDisk

SEALED = "sealed:"


def sealed(root: str, key_file: str) -> str:
    """The root with its files encrypted; as it is without a key file."""
    return f"{SEALED}{quote(key_file, safe='/')}:{root}" if key_file else root


def plain(root: str) -> str:
    """The root as it was configured."""
    return root.removeprefix(SEALED).partition(":")[2] if root.startswith(SEALED) else root


def is_own(root: str) -> bool:
    """Whether what is there takes space of the engine's own disk."""
    return not plain(root)


def has_threads(root: str) -> bool:
    """Whether what is asked of it runs in threads of its own: of a place that may not answer for long, so that it holds up itself alone."""
    return is_bucket(plain(root))


def is_elsewhere(path: str) -> bool:
    """Whether a configured path is a root of its own, and not one below the data directory."""
    return path.startswith("/") or is_bucket(path)


def other_disk(disk: Disk, root: str) -> Disk:
    """The disk that a root means; disk: the engine's own. Does nothing yet that may block. Raises BadRequest for a URL that is none."""
    where = plain(root)
    opened: Disk = BucketDisk(bucket_address.parse(where)) if is_bucket(where) else OsDisk(where) if where else disk
    if root.startswith(SEALED):
        key_file = unquote(root.removeprefix(SEALED).partition(":")[0])
        return SealedDisk(opened, KeyFile(key_file).ring)
    return opened


def sealed_reader(disk: Disk, key_file: str) -> Disk:
    """A disk with its encrypted files decrypted, for offline commands. Raises ConfigError."""
    ring = read_key_file(key_file)
    return SealedDisk(disk, lambda: ring)


def puts_whole_files(disk: Disk) -> bool:
    """Whether a file is there only when it was closed after a sync(), and is never appended to again."""
    return getattr(disk, "puts_whole_files", False)


def renames_directories(disk: Disk) -> bool:
    return not isinstance(getattr(disk, "inner", disk), BucketDisk)


def below(path: str, name: str) -> str:
    """For people: what lies in a configured path."""
    if not is_bucket(path):
        return f"{path}/{name}"
    return bucket_address.parse(path).shown(name)


def is_same(path: str, other: str) -> bool:
    """Whether two configured paths are one place."""
    if is_bucket(path) and is_bucket(other):
        one, two = bucket_address.parse(path), bucket_address.parse(other)
        return (one.bucket, one.prefix, one.endpoint) == (two.bucket, two.prefix, two.endpoint)
    return path.rstrip("/") == other.rstrip("/")


def check_path(path: str) -> None:
    """Raises BadRequest for a configured path that can be none."""
    if is_bucket(path):
        bucket_address.parse(path)
    elif not path.startswith("/") or "\0" in path or "/../" in f"{path}/":
        raise BadRequest(f"path {path!r}: an absolute path without '..', an s3:// URL, or none for the default")


def try_path(disk: Disk, root: str, unique: str) -> None:
    """Whether something can be put there: a directory is made; in a bucket an object is put and removed again. The keys are read. Blocking. Raises OSError."""
    there = other_disk(disk, root)
    if isinstance(there, SealedDisk):
        there.keys()
        there = there.inner
    if isinstance(there, BucketDisk):
        there.probe(unique)
    else:
        there.make_dir(".")
