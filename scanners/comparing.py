"""Are candidates for duplicates really equal? Reads them, and nothing but them.

A file is read only if it is still the inode that the scan saw, by number, size and time; no
symbolic link is followed on the way to it, and nothing is opened before it is known.
"""

import errno
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from scanners.columns import signed
from scanners.directory import parent_of
from scanners.duplicates import Copy, Group

# Most files that differ do so early.
PREFIX_BYTES = 64 << 10
CHUNK_BYTES = 1 << 20


class NotReadError(Exception):
    """A file that was not compared; the message says why."""


@dataclass
class Compared:
    """Groups of equal content, and why files were not compared, by path."""

    groups: list[Group] = field(default_factory=list)
    not_read: dict[bytes, str] = field(default_factory=dict)


def compare(candidates: Sequence[Group], on_read: Callable[[int], None]) -> Compared:
    """Read the candidates: the groups of equal content, the most to reclaim first.

    `on_read` gets the number of bytes whenever some were read; an exception it raises ends it.
    """
    result = Compared()
    for group in candidates:
        alike = [group.copies]
        limits = [PREFIX_BYTES] if group.size_bytes > PREFIX_BYTES else []
        for limit in (*limits, None):
            contents = [_by_content(group, copies, limit, on_read, result) for copies in alike]
            found = [pair for by_hash in contents for pair in by_hash.items() if len(pair[1]) > 1]
            alike = [tuple(copies) for _, copies in found]
        result.groups += [group.of(copies, content) for content, copies in found]
    result.groups.sort(key=lambda group: group.reclaimable_bytes, reverse=True)
    return result


def _by_content(
    group: Group,
    copies: Sequence[Copy],
    limit: int | None,
    on_read: Callable[[int], None],
    result: Compared,
) -> dict[str, list[Copy]]:
    """The copies by the hash of their first `limit` bytes, or of all."""
    found: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        try:
            found[_content(copy, group.size_bytes, limit, on_read)].append(copy)
        except NotReadError as error:
            result.not_read[copy.path] = str(error)
        except OSError as error:
            result.not_read[copy.path] = error.strerror or str(error)
    return found


def _content(copy: Copy, size_bytes: int, limit: int | None, on_read: Callable[[int], None]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    with _opened(copy, size_bytes) as descriptor:
        before = os.fstat(descriptor)
        left = size_bytes if limit is None else limit
        while left and (chunk := os.read(descriptor, min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
            on_read(len(chunk))
        after = os.fstat(descriptor)
        if left or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise NotReadError("changed while it was read")
    return digest.hexdigest()


@contextmanager
def _opened(copy: Copy, size_bytes: int) -> Iterator[int]:
    """A descriptor to read the file that the scan saw.

    Raises:
        NotReadError: it is another one now, or without blocks on disk.
        OSError: it cannot be opened.
    """
    with parent_of(copy.path) as (parent, name):
        # Opened so, a device or pipe in its place is not touched.
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        place = os.open(name, flags, dir_fd=parent)
    try:
        _require_same(copy, size_bytes, os.fstat(place))
        descriptor = _open_to_read(f"/proc/self/fd/{place}")
    finally:
        os.close(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _require_same(copy: Copy, size_bytes: int, status: os.stat_result) -> None:
    if not copy.ino:
        raise NotReadError("its inode number is not known")
    seen = (stat.S_IFREG, copy.ino, copy.dev, size_bytes, copy.mtime_s)
    device = None if copy.dev is None else signed(status.st_dev)
    is_now = (stat.S_IFMT(status.st_mode), signed(status.st_ino), device, status.st_size)
    if (*is_now, int(status.st_mtime_ns // 1_000_000_000)) != seen:
        raise NotReadError("changed since the scan")
    if status.st_size and not status.st_blocks:
        raise NotReadError("has no blocks on disk, and reading might bring it back from tape")


def _open_to_read(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    # O_NOATIME is for the owner and root only. Source: open(2).
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
