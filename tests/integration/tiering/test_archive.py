"""Containers: what is written comes back, by this package and by the tar programs; damage shows."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import archived, mounts
from tiering import inode
from tiering.archive import reader, writer
from tiering.archive.entry import Entry
from tiering.archive.posix import PosixStore
from tiering.archive.store import ArchiveError, DamagedError

pytestmark = mounts.needs_root

PROGRAMS = {
    "tar": ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"],
    "bsdtar": ["bsdtar", "--xattrs", "--acls", "--numeric-owner", "-xpf"],
}

# What GNU tar says of keywords that it does not need, and of the years 1970 and 2096.
EXPECTED = ("'hdrcharset'", "s in the future", "1970-01-01 00:00:00", "1969-01-01 00:00:00")


@pytest.fixture
def store(tmp_path: Path) -> PosixStore:
    (tmp_path / "archive").mkdir()
    return PosixStore(tmp_path / "archive")


def described(root: Path) -> Iterator[tuple[Entry, bytes]]:
    """Entry and payload of everything below a root; directories last, the innermost first."""
    start = os.fsencode(root)
    seen: dict[int, bytes] = {}
    walked = list(os.walk(start, topdown=False))
    paths = [os.path.join(d, n) for d, ds, fs in walked for n in (*ds, *fs)] + [start]
    for path in sorted(paths, key=lambda p: os.path.isdir(p) and not os.path.islink(p)):
        status = os.lstat(path)
        relative = os.path.relpath(path, start)
        is_file = inode.kind_of(status.st_mode) == "f"
        descriptor = os.open(path, os.O_RDONLY if is_file else os.O_PATH | os.O_NOFOLLOW)
        entry = inode.describe(descriptor, relative, status, {"inode": status.st_ino})
        if is_file and status.st_ino in seen:
            entry = replace(entry, kind="h", link=seen[status.st_ino], size_bytes=0, extents=None)
        payload = b"".join(inode.payload(descriptor, entry)) if entry.kind == "f" else b""
        os.close(descriptor)
        seen[status.st_ino] = relative
        yield entry, payload


def written(store: PosixStore, root: Path) -> writer.ContainerWriter:
    with writer.ContainerWriter(store, writer.new_key()) as container:
        for entry, payload in described(root):
            # Both ways: with the checksum in the header, and only in the list.
            container.add(entry, payload if len(payload) < 1 << 20 else iter([payload]))
        assert container.finish() == store.size(container.key)
        container.verify()
    return container


@pytest.mark.parametrize("program", PROGRAMS)
def test_tar_alone_restores_everything(
    disk: Path, store: PosixStore, tmp_path: Path, program: str
) -> None:
    source, target = disk / "source", disk / "target"
    source.mkdir()
    target.mkdir()
    archived.make(source)
    container = written(store, source)
    archive = store.folder / container.key
    done = subprocess.run(
        [*PROGRAMS[program], archive, "-C", target], check=False, capture_output=True
    )
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said
    lines = [line for line in said.splitlines() if not line.endswith(EXPECTED)]
    assert lines == []
    expected, found = archived.snapshot(source), archived.snapshot(target)
    if program == "bsdtar":
        # It sets the time of a directory that is there at once, and the list of members follows.
        assert expected.pop(b".")[:3] == found.pop(b".")[:3]
    assert archived.difference(expected, found) == {}
    sparse = (target / "plain/holes").stat()
    assert sparse.st_blocks * 512 < sparse.st_size


def test_members_come_back_one_by_one(disk: Path, store: PosixStore) -> None:
    archived.make(disk)
    container = written(store, disk)
    found = list(reader.members(store, container.key))
    assert [(m.entry, m.offset, m.sha256) for m in found[:-1]] == [
        (p.entry, p.offset, p.sha256) for p in container.placed
    ]
    assert found[-1].entry.path.startswith(b".datamgr-archive/")
    payloads = {entry.path: payload for entry, payload in described(disk)}
    for placed in container.placed:
        parts = reader.payload(store, container.key, placed.offset, placed.entry.stored_bytes)
        assert b"".join(parts) == payloads[placed.entry.path]


def test_the_content_of_a_sparse_file_is_where_it_was(disk: Path, store: PosixStore) -> None:
    archived.make(disk)
    container = written(store, disk)
    placed = next(p for p in container.placed if p.entry.extents and p.entry.kind == "f")
    chunks = reader.payload(store, container.key, placed.offset, placed.entry.stored_bytes)
    built = bytearray(placed.entry.size_bytes)
    for offset, data in reader.content(chunks, placed.entry):
        built[offset : offset + len(data)] = data
    path = disk / os.fsdecode(placed.entry.path)
    assert bytes(built) == path.read_bytes()


def small(store: PosixStore) -> writer.ContainerWriter:
    with writer.ContainerWriter(store, writer.new_key()) as container:
        for number in range(20):
            data = bytes([number]) * 700
            container.add(Entry(b"f%d" % number, "f", size_bytes=700), data)
        container.finish()
    return container


def test_every_flipped_bit_of_a_payload_is_found(store: PosixStore) -> None:
    container = small(store)
    path = store.folder / container.key
    whole = path.read_bytes()
    # Beyond the last member there is only its list, which nothing is restored from.
    end = container.placed[-1].offset + 700
    harmless = []
    for position in range(0, end, 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            container.verify()
        except DamagedError:
            continue
        harmless.append(position)
    members = [(p.offset, p.offset + 700) for p in container.placed]
    assert not [h for h in harmless if any(a <= h < b for a, b in members)]
    # The rest is padding, or said twice.
    assert len(harmless) < end / 37 / 2


@pytest.mark.parametrize("length", [0, 511, 512, 5000, -1])
def test_a_cut_off_container_is_found(store: PosixStore, length: int) -> None:
    container = small(store)
    path = store.folder / container.key
    last = container.placed[-1].offset + 700
    os.truncate(path, last - 1 if length == -1 else length)
    with pytest.raises(DamagedError, match=r"is damaged: .*"):
        container.verify()
    with pytest.raises(DamagedError, match="is cut off"):
        list(reader.payload(store, container.key, container.placed[-1].offset, 700))


def test_a_missing_container_is_named(store: PosixStore) -> None:
    container = small(store)
    store.delete(container.key)
    with pytest.raises(ArchiveError, match=f"cannot find {container.key} in the archive"):
        container.verify()


def test_a_full_archive_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "small", 1 << 20) as folder:
        store = PosixStore(folder)
        with (
            pytest.raises(ArchiveError, match="No space left on device"),
            writer.ContainerWriter(store, "a.tar") as container,
        ):
            container.add(Entry(b"f", "f", size_bytes=3 << 20), bytes(3 << 20))
            container.finish()
        assert os.listdir(folder) == []


def test_an_object_is_not_written_twice(store: PosixStore) -> None:
    container = small(store)
    with pytest.raises(ArchiveError, match="has an object"):
        store.create(container.key)
    assert list(store.keys()) == [container.key]
