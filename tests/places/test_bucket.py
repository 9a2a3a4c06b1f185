"""A bucket as a Disk: whole files or none, names, errors that say what to do, and memory that does not grow with a file."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import MemoryDisk
from storage.backup import bucket, bucket_address
from storage.backup.bucket import BucketDisk
from storage.backup.bucket_address import BucketAddress, meaning
from storage.backup.places import below, is_same, other_disk, plain, sealed, try_path
from storage.errors import BadRequest, ConfigError, of_disk

from .conftest import DENIED, UNAVAILABLE, Store

MIB = 2**20


@pytest.fixture
def disk(store: Store) -> BucketDisk:
    opened = other_disk(MemoryDisk(), store.url())
    assert isinstance(opened, BucketDisk)
    return opened


def write(disk: BucketDisk, path: str, data: bytes) -> None:
    file = disk.create(path)
    file.append(data)
    file.sync()
    file.close()


def test_a_file_is_there_when_it_is_closed(disk: BucketDisk, store: Store) -> None:
    file = disk.create("a/b/one")
    file.append(b"hel")
    file.append([b"l", b"o"])
    file.sync()
    assert file.size == 5 and store.names() == [] and not disk.exists("a/b/one")
    file.close()
    assert store.names() == ["shelf/a/b/one"] and disk.read_file("a/b/one") == b"hello" and disk.size("a/b/one") == 5
    with pytest.raises(FileExistsError):
        disk.create("a/b/one")
    disk.replace_file("a/b/one", b"other")
    assert bytes(disk.map("a/b/one")) == b"other"
    write(disk, "empty", b"")
    assert disk.size("empty") == 0 and disk.read_file("empty") == b"" == bytes(disk.map("empty"))


def test_a_file_that_was_given_up_never_was(disk: BucketDisk, store: Store) -> None:
    for size in (10, 25 * MIB):
        file = disk.create("half")
        file.append(b"synced")
        file.sync()
        file.append(bytes(size))
        file.close()
        assert store.names() == []


def test_names(disk: BucketDisk) -> None:
    assert disk.list_dir(".") == [] == disk.list_dir("nowhere")
    for path in ("b/2", "b/1", "a", "b/c/3"):
        write(disk, path, path.encode())
    assert disk.list_dir("") == disk.list_dir(".") == ["a", "b"] and disk.list_dir("b") == ["1", "2", "c"]
    assert disk.exists("b") and disk.exists("b/c") and not disk.exists("c")
    disk.rename("a", "b/0")
    assert disk.list_dir("b") == ["0", "1", "2", "c"] and disk.read_file("b/0") == b"a"
    disk.remove("b/0")
    with pytest.raises(FileNotFoundError):
        disk.remove("b/0")
    for missing in (disk.size, disk.read_file, disk.open_read):
        with pytest.raises(FileNotFoundError):
            missing("b/0")
    disk.remove_tree("b")
    assert disk.list_dir("b") == [] and not disk.exists("b/c/3")
    assert disk.list_dir("") in ([], ["b"])


def test_a_tree_loses_its_manifest_first(disk: BucketDisk, store: Store) -> None:
    for name in ("_manifest.json", "a", "z"):
        write(disk, f"backup/{name}", b"x")
    store.requests.clear()
    disk.remove_tree("backup")
    removals = [path for method, path in store.requests if method == "DELETE" or method == "POST"]
    assert removals[0].endswith("/backup/_manifest.json") and disk.list_dir("backup") == []


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 9 * MIB + 17])
def test_ranges_are_what_was_written(disk: BucketDisk, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    write(disk, "f", data)
    file = disk.open_read("f")
    for offset, length in [(0, 10), (10, 70_000), (size - 5, 50), (size // 2, 3 * MIB), (0, size), (size, 5), (size + 9, 5), (3, 0), (70_010, MIB), (10, 5)]:
        if offset >= 0:
            assert file.read_at(offset, length) == data[offset : offset + length]
    assert bytes(disk.map("f")) == data
    file.close()


def test_reading_on_takes_few_requests(disk: BucketDisk, store: Store) -> None:
    write(disk, "f", bytes(24 * MIB))
    store.requests.clear()
    file = disk.open_read("f")
    for offset in range(0, 24 * MIB, 4096):
        assert len(file.read_at(offset, 4096)) == 4096
    assert len(store.requests) < 20


def test_what_a_bucket_cannot_is_refused_by_name(disk: BucketDisk) -> None:
    write(disk, "f", b"x")
    file = disk.open_read("f")
    attempts: list[Callable[[], object]] = [
        lambda: disk.open_append("f"), lambda: disk.overwrite("f", 0, b"y"), lambda: disk.inode("f"), lambda: disk.lock("f", b""),
        lambda: file.reserve(5), file.trim, lambda: file.cut(1), file.inode,
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(OSError, match="not possible in a bucket") as raised:
            attempt()
        assert raised.value.errno == errno.EOPNOTSUPP and "s3://" in str(raised.value)
    with pytest.raises(OSError, match="not open for writing"):
        file.append(b"x")


def test_a_file_over_the_limit_is_refused_before_anything_is_put(disk: BucketDisk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "FILE_BYTES_MAX", 100)
    file = disk.create("f")
    file.append(bytes(90))
    with pytest.raises(OSError, match="at most 100 bytes") as raised:
        file.append(bytes(11))
    assert raised.value.errno == errno.EFBIG
    file.close()
    assert store.names() == []


# Faults


def test_an_upload_that_is_cut_off_half_way_leaves_nothing(disk: BucketDisk, store: Store) -> None:
    file = disk.create("big")
    file.append(bytes(11 * MIB))
    store.fault = lambda method, path, query: UNAVAILABLE if method in ("PUT", "POST") else None
    with pytest.raises(OSError, match="putting it in bucket"):
        for _ in range(4):
            file.append(bytes(11 * MIB))
        file.sync()
        file.close()
    store.fault = lambda method, path, query: None
    file.close()
    assert store.names() == []


def test_a_fault_that_passes_is_not_noticed(disk: BucketDisk, store: Store) -> None:
    left = {"PUT": 1, "GET": 1, "HEAD": 1}

    def fault(method: str, path: str, query: str) -> tuple[str, str] | None:
        left[method] = left.get(method, 0) - 1
        return UNAVAILABLE if left[method] >= 0 else None

    store.fault = fault
    write(disk, "f", b"hello")
    assert disk.read_file("f") == b"hello" and all(count < 0 for count in left.values())


def test_errors_say_which_object_and_what_to_do(disk: BucketDisk, store: Store) -> None:
    write(disk, "f", b"x")
    store.fault = lambda method, path, query: DENIED
    for attempt in (lambda: disk.replace_file("f", b"y"), lambda: write(disk, "g", b"y"), lambda: disk.list_dir(""), lambda: disk.remove_tree("x")):
        with pytest.raises(PermissionError, match="GetObject|AWS_ACCESS_KEY_ID") as raised:
            attempt()
        assert f"s3://{store.bucket}/shelf" in str(raised.value) and "secret-of-the-test" not in str(raised.value)
        assert "check the device" not in str(of_disk(raised.value, "a backup"))
    store.fault = lambda method, path, query: UNAVAILABLE
    with pytest.raises(OSError, match="bucket"):
        disk.list_dir("")


def test_a_bucket_that_is_not_there_is_no_empty_shelf(store: Store) -> None:
    disk = BucketDisk(BucketAddress("never-made", "x", store.endpoint, "http", "us-east-1"))
    for attempt in (lambda: disk.list_dir("."), lambda: disk.replace_file("f", b""), lambda: disk.probe("1")):
        with pytest.raises(OSError, match="create the bucket") as raised:
            attempt()
        assert raised.value.errno == errno.ENXIO


def test_nobody_at_the_endpoint(credentials: None) -> None:
    pytest.importorskip("pyarrow")
    import socket

    with socket.socket() as taken:  # bound, so that nobody else listens there, and not listening
        taken.bind(("127.0.0.1", 0))
        root = f"s3://bucket-1/x?endpoint_override=127.0.0.1:{taken.getsockname()[1]}&scheme=http&region=us-east-1"
        with pytest.raises(OSError, match="endpoint is up") as raised:
            try_path(MemoryDisk(), root, "1")
        assert raised.value.errno == errno.EHOSTUNREACH


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OSError, match=r"pip install 'twinlog\[s3\]'"):
        BucketDisk(BucketAddress("bucket-1")).list_dir("")
    monkeypatch.setattr(bucket, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'twinlog\[s3\]'"):
        bucket.check_client()


# Addresses


def test_an_address() -> None:
    assert bucket_address.parse("s3://my-bucket") == BucketAddress("my-bucket")
    found = bucket_address.parse("s3://my-bucket/a/b%20c/?endpoint_override=http://minio:9000/&region=eu-west-1")
    assert found == BucketAddress("my-bucket", "a/b c", "minio:9000", "http", "eu-west-1")
    assert found.key("./x//y") == "my-bucket/a/b c/x/y" and found.shown("x") == "s3://my-bucket/a/b c/x"
    assert bucket_address.parse("s3://my-bucket/a?scheme=http&endpoint_override=h:1").scheme == "http"
    assert is_same("s3://b-1/x?region=a", "s3://b-1/x/") and not is_same("s3://b-1/x", "s3://b-1/y") and is_same("/a/", "/a") and not is_same("/a", "s3://b-1/a")
    assert below("s3://b-1/x?region=a", "n") == "s3://b-1/x/n" and below("/a", "n") == "/a/n"


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3://a", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?access_key=secret", "s3://bucket/x?region=a&region=b", "s3://bucket/a/../b", "s3://bucket/a//b",
        "s3://bucket/x#y", "s3://bucket/x?scheme=ftp", "s3://bucket/x?endpoint_override=u:secret@h", "s3://bucket/x?endpoint_override=h/p", "s3://bucket/x?y", "s3://bucket/\n",
        "s3://bucket/" + "x" * 3000,
    ],
)  # fmt: skip
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(BadRequest) as raised:
        bucket_address.parse(url)
    assert "secret" not in str(raised.value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_root_goes_there_and_back(root: str, key_file: str) -> None:
    if not root.startswith("sealed:"):
        assert plain(sealed(root, key_file)) == root
    assert sealed(root, "") == root


def test_errors_have_a_meaning() -> None:
    assert meaning("When x: AWS Error NO_SUCH_BUCKET during PutObject operation: y")[0] == errno.ENXIO
    assert meaning("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation")[0] == errno.EACCES
    assert meaning("something else")[0] == errno.EIO
