"""The same round trips with an archive in a bucket, over HTTP."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from datamgr.config import Settings
from datamgr.config_tier import S3Archive, TierSettings
from datamgr.db import Database
from tests import archived, mounts
from tests.tiered import files, inner_store, punched, staged, succeeded
from tiering import recovery
from tiering.archive import s3
from tiering.archive.s3 import S3Store
from tiering.archive.store import ArchiveError
from tiering.archive.writer import new_key
from tiering.archive.zst import ZstdStore
from tiering.put import put
from tiering.root import ManagedRoot, open_root
from tiering.stage import stage

pytestmark = mounts.needs_root


@pytest.fixture(scope="module")
def service() -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def place(service: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> S3Archive:
    """A fresh bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    host, port = service.get_host_and_port()
    found = S3Archive(
        bucket=f"bucket{new_key()[:13]}{os.getpid()}",
        endpoint=f"http://{host}:{port}",
        prefix="lab/",
        region="us-east-1",
    )
    client(found).create_bucket(Bucket=found.bucket)
    return found


@pytest.fixture
def root(
    place: S3Archive, settings: Settings, database: Database, tmp_path: Path
) -> Iterator[ManagedRoot]:
    with mounts.ext4(tmp_path, 128 << 20) as disk:
        (disk / "data").mkdir()
        tier = TierSettings(root=disk / "data", archive=place, small_bytes=1 << 20, bundle_files=50)
        with open_root(
            settings.model_copy(update={"tier": {"data": tier}}), database, "data"
        ) as opened:
            yield opened


def client(place: S3Archive) -> Any:
    return boto3.client("s3", endpoint_url=place.endpoint, region_name=place.region)


def test_a_hostile_tree_comes_back_from_a_bucket(root: ManagedRoot) -> None:
    data = root.settings.root
    archived.make(data)
    (data / "large").write_bytes(os.urandom(40 << 20))
    before = archived.snapshot(data)
    number = len(files(root))
    assert succeeded(put(root, [b"."])).done == number
    assert punched(root).done == number
    assert staged(root).done == number
    assert archived.difference(before, archived.snapshot(data)) == {}


def test_what_was_not_completed_is_not_there(place: S3Archive) -> None:
    store = s3.open_store(place)
    key = new_key()
    draft = store.create(key)
    draft.write(b"x" * (17 << 20))
    assert list(store.keys()) == []
    with pytest.raises(ArchiveError, match=f"has no object {key}"):
        store.size(key)
    draft.abandon()
    assert client(place).list_multipart_uploads(Bucket=place.bucket).get("Uploads", []) == []


def test_recovery_ends_uploads_that_a_crash_left(place: S3Archive) -> None:
    store = s3.open_store(place)
    key = new_key()
    store.create(key).write(b"x")
    store.delete(key)
    assert client(place).list_multipart_uploads(Bucket=place.bucket).get("Uploads", []) == []
    store.delete(key)  # none is no error


def test_ranges_of_many_parts_are_read(place: S3Archive) -> None:
    store: S3Store = s3.open_store(place)
    content, key = os.urandom(40 << 20), new_key()
    draft = store.create(key)
    for start in range(0, len(content), 1 << 20):
        draft.write(content[start : start + (1 << 20)])
    draft.commit()
    assert store.size(key) == len(content)
    assert list(store.keys()) == [key]
    for offset, length in ((0, 10), (17 << 20, 5 << 20), (len(content) - 5, 100), (0, 1 << 30)):
        assert b"".join(store.read(key, offset, length)) == content[offset : offset + length]
    with pytest.raises(ArchiveError, match="already"):
        store.create(key)


def test_a_bucket_that_is_not_there_is_named(place: S3Archive) -> None:
    absent = place.model_copy(update={"bucket": "nothing-here"})
    with pytest.raises(ArchiveError, match="the bucket nothing-here cannot be used"):
        s3.open_store(absent)


def test_a_service_that_goes_away_fails_each_file_and_loses_none(
    root: ManagedRoot, place: S3Archive, service: ThreadedMotoServer
) -> None:
    path = root.settings.root / "one"
    path.write_bytes(b"precious" * 1000)
    succeeded(put(root, [b"one"]))
    punched(root)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        store = inner_store(root)
        assert isinstance(store, S3Store)
        away = S3Store(
            boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1"),
            store.bucket,
            store.prefix,
        )
        object.__setattr__(root, "store", away)
        (root.settings.root / "two").write_bytes(b"two")
        assert "Could not connect" in put(root, [b"two"]).failures[0].reason
        assert "Could not connect" in stage(root, [b"one"]).failures[0].reason
    object.__setattr__(root, "store", ZstdStore(store))
    succeeded(recovery.recover(root))
    assert succeeded(stage(root, [b"one"])).done == 1
    assert path.read_bytes() == b"precious" * 1000
