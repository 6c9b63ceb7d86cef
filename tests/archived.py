"""Trees that are hard to archive, and everything about a tree that must come back."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from tests import acls, trees

SKIPPED = b".datamgr-archive"


def make(root: Path) -> None:
    """One of everything: names, times, owners, attributes, lists, links, holes; needs root."""
    trees.hostile(root)
    folder = root / "plain"
    folder.mkdir()
    (folder / "empty").touch()
    (folder / "text").write_bytes(b"hello\n")
    (folder / "block").write_bytes(os.urandom(512))
    (folder / "big").write_bytes(os.urandom(3 * trees.MIB + 1))
    (folder / "private").write_bytes(b"secret")
    (folder / "private").chmod(0o600)
    (folder / "setuid").write_bytes(b"#!/bin/sh\n")
    os.chown(folder / "setuid", trees.ADA, trees.COSMO)
    (folder / "setuid").chmod(0o6755)
    (folder / "large-ids").write_bytes(b"x")
    os.chown(folder / "large-ids", 3_000_000_000, 3_000_000_001)
    _links(root, folder)
    _sparse(folder)
    _attributes(folder)
    _times(folder)
    for directory in (folder, root / "sub", root):
        os.utime(directory, ns=(10**18, 10**18 + 123_456_789))


def snapshot(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """Kind, mode, owners, modification, size, content, attributes, links by relative path.

    The size of a directory is its own business, the modification of a link's target likewise.
    """
    found: dict[bytes, tuple[Any, ...]] = {}
    links: dict[tuple[int, int], list[bytes]] = {}
    start = os.fsencode(root)
    for folder, directories, files in os.walk(start):
        directories[:] = [name for name in directories if name != SKIPPED]
        for name in (b"", *directories, *files) if folder == start else (*directories, *files):
            path = os.path.join(folder, name) if name else start
            status = os.lstat(path)
            relative = os.path.relpath(path, start)
            found[relative] = _state(path, status)
            if stat.S_ISREG(status.st_mode):
                links.setdefault((status.st_dev, status.st_ino), []).append(relative)
    for names in links.values():
        for name in names:
            found[name] += (tuple(sorted(names)),)
    return found


def difference(
    left: dict[bytes, tuple[Any, ...]], right: dict[bytes, tuple[Any, ...]]
) -> dict[bytes, Any]:
    """What is not the same, for a message that can be read."""
    return {
        path: (left.get(path), right.get(path))
        for path in left.keys() | right.keys()
        if left.get(path) != right.get(path)
    }


def _state(path: bytes, status: os.stat_result) -> tuple[Any, ...]:
    kind = stat.S_IFMT(status.st_mode)
    is_file = stat.S_ISREG(status.st_mode)
    attributes = (
        {} if kind == stat.S_IFLNK else {n: os.getxattr(path, n) for n in os.listxattr(path)}
    )
    return (
        oct(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_size if is_file else None,
        _hash(path) if is_file else None,
        os.readlink(path) if kind == stat.S_IFLNK else None,
        status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else None,
        attributes,
    )


def _hash(path: bytes) -> str:
    with open(path, "rb") as file:  # noqa: PTH123  the name is bytes
        return hashlib.file_digest(file, "sha256").hexdigest()


def _links(root: Path, folder: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub").chmod(0o2775)
    (root / "sub/empty").mkdir()
    (folder / "linked").write_bytes(b"linked")
    os.link(folder / "linked", folder / "linked-again")
    os.link(folder / "linked", root / "sub/linked-below")
    (folder / "symlink").symlink_to("../sub/linked-below")
    (folder / "dangling").symlink_to("x" * 300)
    os.symlink(b"\xff\n", os.fsencode(folder) + b"/bytes")
    os.mkfifo(folder / "fifo", 0o640)
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _sparse(folder: Path) -> None:
    trees.make_sparse(folder / "hole", 5 * trees.MIB)
    with trees.make_sparse(folder / "holes", 9 * trees.MIB + 17).open("r+b") as file:
        for megabyte in (1, 4, 8):
            file.seek(megabyte * trees.MIB)
            file.write(os.urandom(70_000))
    with trees.make_sparse(folder / "hole-first", trees.MIB).open("r+b") as file:
        file.seek(trees.MIB - 10)
        file.write(b"0123456789")
    os.link(folder / "holes", folder / "holes-again")


def _attributes(folder: Path) -> None:
    for name in ("attributes", "list"):
        (folder / name).write_bytes(name.encode())
    os.setxattr(folder / "attributes", "user.plain", b"text")
    os.setxattr(folder / "attributes", "user.binary", bytes(range(256)))
    os.setxattr(folder / "attributes", "user.empty", b"")
    os.setxattr(folder / "attributes", "trusted.site", b"=\n=")
    acl = acls.packed(6, 4, 0, users={trees.ADA: 6, trees.BOB: 4}, groups={trees.LAB: 5}, mask=7)
    os.setxattr(folder / "list", "system.posix_acl_access", acl)
    (folder / "inherits").mkdir()
    os.setxattr(folder / "inherits", "system.posix_acl_default", acl)
    os.setxattr(folder / "inherits", "user.of-directory", b"yes")


def _times(folder: Path) -> None:
    for name, time_ns in (
        ("before-1970", -(10**9) * 86_400 * 365),
        ("at-1970", 0),
        ("fine", 1_600_000_000_123_456_789),
        ("far", 4_000_000_000 * 10**9),
    ):
        (folder / name).write_bytes(name.encode())
        os.utime(folder / name, ns=(time_ns, time_ns))
