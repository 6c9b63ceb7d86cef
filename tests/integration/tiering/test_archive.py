"""Containers: what is written comes back, by this package and by the tar programs; damage shows."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import archived, mounts
from tiering import inode
from tiering.archive import reader, writer
from tiering.archive.entry import Entry
from tiering.archive.posix import PosixStore
from tiering.archive.store import ArchiveError, DamagedError, Store
from tiering.archive.zst import ZstdStore

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
            entry = entry._replace(kind="h", link=seen[status.st_ino], size_bytes=0, extents=None)
        payload = b"".join(inode.payload(descriptor, entry)) if entry.kind == "f" else b""
        os.close(descriptor)
        seen[status.st_ino] = relative
        yield entry, payload


def written(store: Store, root: Path, compress: str = "none") -> writer.ContainerWriter:
    with writer.ContainerWriter(store, writer.new_key(compress)) as container:
        for entry, payload in described(root):
            # Both ways: with the checksum in the header, and only in the list.
            container.add(entry, payload if len(payload) < 1 << 20 else iter([payload]))
        assert container.finish() == store.size(container.key)
        container.verify()
    return container


@pytest.mark.parametrize("compress", ["none", "zstd"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_tar_alone_restores_everything(
    disk: Path, store: PosixStore, program: str, compress: str
) -> None:
    source, target = disk / "source", disk / "target"
    source.mkdir()
    target.mkdir()
    archived.make(source)
    container = written(ZstdStore(store), source, compress)
    archive = store.folder / container.key
    how = ["--zstd"] if program == "tar" and compress == "zstd" else []
    first, *others = PROGRAMS[program]
    argv = [first, *how, *others, archive, "-C", target]
    done = subprocess.run(argv, check=False, capture_output=True)
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
        parts = reader.Members(store).payload(
            container.key, placed.offset, placed.entry.stored_bytes
        )
        assert b"".join(parts) == payloads[placed.entry.path]


def test_the_content_of_a_sparse_file_is_where_it_was(disk: Path, store: PosixStore) -> None:
    archived.make(disk)
    container = written(store, disk)
    placed = next(p for p in container.placed if p.entry.extents and p.entry.kind == "f")
    chunks = reader.Members(store).payload(container.key, placed.offset, placed.entry.stored_bytes)
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


@pytest.mark.parametrize("of_many", [True, False])
@pytest.mark.parametrize("position", [None, 5 << 20, 36 << 20])
def test_what_is_read_back_while_it_is_written_is_compared(
    store: PosixStore, of_many: bool, position: int | None
) -> None:
    content = os.urandom(40 << 20)  # of which a first part is read before the last is written
    entry = Entry(b"f", "f", size_bytes=len(content))
    chunks = (content[n : n + (1 << 20)] for n in range(0, len(content), 1 << 20))

    def payload() -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == 20 and position == 5 << 20:
                overwrite(position)
            yield chunk

    def overwrite(at: int) -> None:
        with (store.folder / "a.tar.tmp").open("r+b") as file:
            file.seek(at)
            file.write(b"not this")

    with writer.ContainerWriter(store, "a.tar", of_many=of_many, follow=True) as container:
        container.add(entry, payload())
        if position == 36 << 20:
            overwrite(position)
        container.finish()
        if position is None:
            container.verify()
        else:
            with pytest.raises(DamagedError, match=r"a\.tar is (damaged|not what was written)"):
                container.verify()


@pytest.mark.parametrize("length", [0, 511, 512, 5000, -1])
def test_a_cut_off_container_is_found(store: PosixStore, length: int) -> None:
    container = small(store)
    path = store.folder / container.key
    last = container.placed[-1].offset + 700
    os.truncate(path, last - 1 if length == -1 else length)
    with pytest.raises(DamagedError, match=r"is damaged: .*"):
        container.verify()
    with pytest.raises(DamagedError, match="is cut off"):
        list(reader.Members(store).payload(container.key, container.placed[-1].offset, 700))


def test_a_missing_container_is_named(store: PosixStore) -> None:
    container = small(store)
    store.delete(container.key)
    with pytest.raises(ArchiveError, match=f"cannot read {container.key} in the archive"):
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


def test_each_member_has_its_checksums_wherever_they_are_told(store: PosixStore) -> None:
    """Of known values: of 32 zeros (RFC 3720, B.4) and of `123456789`, in headers and list."""
    expected = {b"zeros": ("8a9136aa", "00200001"), b"digits": ("e3069283", "091e01de")}
    contents = {b"zeros": bytes(32), b"digits": b"123456789"}
    with writer.ContainerWriter(store, writer.new_key()) as container:
        for name, data in contents.items():
            container.add(Entry(name, "f", size_bytes=len(data)), data)
            container.add(Entry(name + b"-in-parts", "f", size_bytes=len(data)), iter([data]))
        container.finish()
    found = list(reader.members(store, container.key, with_sums=True))
    path = store.folder / container.key
    tail = found[-1].offset
    lines = path.read_bytes()[tail : tail + found[-1].entry.size_bytes].splitlines()[1:]
    for member, line in zip(found, lines, strict=False):
        name = member.entry.path.removesuffix(b"-in-parts")
        crc, adler = expected[name]
        assert member.sums is not None
        assert (f"{member.sums.crc32c:08x}", f"{member.sums.adler32:08x}") == (crc, adler)
        listed = json.loads(line)
        assert (listed["crc32c"], listed["adler32"]) == (crc, adler)
        if name == member.entry.path:
            assert (member.entry.note["crc32c"], member.entry.note["adler32"]) == (crc, adler)
