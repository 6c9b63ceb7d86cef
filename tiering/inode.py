"""Reads files of a managed root: their state as an archive entry, and their content."""

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache

from datamgr.errors import ConflictError
from tiering import kernel
from tiering.archive import entry as entries
from tiering.archive.entry import Entry
from tiering.archive.store import CHUNK_BYTES

# Marks a stub, and holds what it takes to bring it back. Ordinary accounts have no `trusted`.
STUB_XATTRS = (b"trusted.datamgr.stub", b"user.datamgr.stub")

_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}


def kind_of(mode: int) -> str | None:
    """The kind of an archive entry; None for sockets, which cannot be restored."""
    return _KINDS.get(stat.S_IFMT(mode))


def describe(
    descriptor: int, path: bytes, status: os.stat_result, note: Mapping[str, object]
) -> Entry:
    """The entry of what is open here, by O_PATH or for reading."""
    kind = kind_of(status.st_mode)
    if kind is None:
        raise ValueError("a socket has no entry")
    is_device = kind in ("c", "b")
    rdev = status.st_rdev
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size_bytes=status.st_size if kind == "f" else 0,
        link=os.readlink(b"", dir_fd=descriptor) if kind == "l" else b"",
        user=_user(status.st_uid),
        group=_group(status.st_gid),
        device=(os.major(rdev), os.minor(rdev)) if is_device else (0, 0),
        # By this name also of what is open by O_PATH alone, and of a symbolic link itself.
        xattrs=xattrs(descriptor if kind == "f" else f"/proc/self/fd/{descriptor}"),
        extents=_holes(descriptor, status) if kind == "f" else None,
        note=note,
    )


def xattrs(file: int | str) -> dict[bytes, bytes]:
    """All extended attributes but the mark of a stub, sorted by name."""
    found = {os.fsencode(key): os.getxattr(file, key) for key in sorted(os.listxattr(file))}
    return {key: value for key, value in found.items() if key not in STUB_XATTRS}


def payload(descriptor: int, entry: Entry) -> Iterator[bytes]:
    """What is stored of a file: all of it, or map and data of a sparse one.

    Raises:
        ConflictError: it became shorter meanwhile.
    """
    if entry.extents is not None:
        yield entries.sparse_map(entry)
    for start, length in ((0, entry.size_bytes),) if entry.extents is None else entry.extents:
        offset, left = start, length
        while left > 0:
            data = os.pread(descriptor, min(left, CHUNK_BYTES), offset)
            if not data:
                raise ConflictError("it became shorter while it was read")
            yield data
            offset, left = offset + len(data), left - len(data)


def _holes(descriptor: int, status: os.stat_result) -> tuple[entries.Extent, ...] | None:
    if status.st_blocks * 512 >= status.st_size:
        return None
    extents = kernel.extents(descriptor, status.st_size)
    is_whole = extents == ((0, status.st_size),) or status.st_size == 0
    return None if is_whole else extents


@lru_cache(maxsize=1000)
def _user(uid: int) -> bytes:
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return b""


@lru_cache(maxsize=1000)
def _group(gid: int) -> bytes:
    try:
        return os.fsencode(grp.getgrgid(gid).gr_name)
    except KeyError:
        return b""
