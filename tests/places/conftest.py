"""A store of buckets in this process, and the kinds of places that shelves and archives may have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage.backup.seal_keys import write_key_file

KINDS = ("sealed", "bucket", "sealed bucket")


Fault = Callable[[str, str, str], "tuple[str, str] | None"]  # of method, path and query: the answer in place of the store's
UNAVAILABLE = ("503 Service Unavailable", "ServiceUnavailable")
DENIED = ("403 Forbidden", "InvalidAccessKeyId")


def no_fault(method: str, path: str, query: str) -> tuple[str, str] | None:
    return None


@dataclass
class Store:
    """A store at host:port. url() makes a bucket."""

    endpoint: str
    client: object
    made: int = 0
    fault: Fault = no_fault  # asked of each request
    requests: list[tuple[str, str]] = field(default_factory=list)

    def url(self, prefix: str = "shelf") -> str:
        self.made += 1
        name = f"bucket-{self.made}"
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/{prefix}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    @property
    def bucket(self) -> str:
        """The newest one."""
        return f"bucket-{self.made}"

    def names(self) -> list[str]:
        """In the newest bucket, without marks of directories."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [one["Key"] for one in found if not one["Key"].endswith("/")]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)


@pytest.fixture(scope="session")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def running_store(credentials: None) -> Iterator[Store]:
    pytest.importorskip("pyarrow", reason="the extra s3 is not installed")
    moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="the store for tests is not installed")
    boto3 = pytest.importorskip("boto3", reason="the store's client for tests is not installed")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            """Nothing."""

    application = moto.DomainDispatcherApplication(moto.create_backend_app)

    def asked(environ: dict, start_response: Callable) -> object:
        made = store.fault(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        if made:
            status, code = made
            start_response(status, [("Content-Type", "application/xml")])
            return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as it was told</Message></Error>".encode()]
        store.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, asked, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"127.0.0.1:{server.server_port}"
    store = Store(endpoint, boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1"))
    yield store
    server.shutdown()
    thread.join()


@pytest.fixture
def store(running_store: Store) -> Iterator[Store]:
    running_store.fault = no_fault
    running_store.requests.clear()
    yield running_store
    running_store.fault = no_fault


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "backup.key"
    write_key_file(path)
    return str(path)


@dataclass(frozen=True)
class Place:
    """Where a shelf or archive lies. path and key_file: as they are configured; files: what is stored by its path below it, and its writing and removal."""

    path: str
    key_file: str
    names: Callable[[], list[str]]
    read: Callable[[str], bytes]
    write: Callable[[str, bytes], None]
    remove: Callable[[str], None]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, key_file: str) -> Place:
    key = key_file if "sealed" in request.param else ""
    if "bucket" in request.param:
        store = request.getfixturevalue("store")
        return Place(
            store.url(), key,
            lambda: [name.removeprefix("shelf/") for name in store.names()],
            lambda name: store.read(f"shelf/{name}"),
            lambda name, data: store.write(f"shelf/{name}", data),
            lambda name: store.remove(f"shelf/{name}"),
        )  # fmt: skip
    root = tmp_path / "shelf"
    root.mkdir()
    return Place(
        str(root), key,
        lambda: sorted(str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()),
        lambda name: (root / name).read_bytes(),
        lambda name, data: None if (root / name).write_bytes(data) else None,
        lambda name: (root / name).unlink(),
    )  # fmt: skip
