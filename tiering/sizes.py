"""How much there is below some paths, counted beside the work, so that its end can be foreseen."""

import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from tiering import below
from tiering.models import ARCHIVE
from tiering.root import ManagedRoot


@dataclass(frozen=True)
class Total:
    """Files and their bytes."""

    files: int
    bytes: int


@dataclass
class Size:
    """What is being counted. `total` is None until all is."""

    total: Total | None = None


def measure(root: ManagedRoot, paths: Sequence[bytes], *, recursive: bool, stage: bool) -> Size:
    """Begin to count. What cannot be looked at counts as nothing: this is only a forecast.

    `stage`: of what is below directories, count what tiering has, and the bytes that are to come.
    """
    size = Size()

    def count() -> None:
        top = f"/proc/self/fd/{root.descriptor}/".encode()
        files = total = 0
        directories = []
        for path in paths:
            try:
                status = os.lstat(top + path)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                directories += [path] if recursive else []
            else:
                files, total = files + 1, total + status.st_size
        found = _archived(root, directories) if stage else _below(top, directories)
        size.total = Total(files + found.files, total + found.bytes)

    threading.Thread(target=count, name="count", daemon=True).start()
    return size


def _archived(root: ManagedRoot, directories: Sequence[bytes]) -> Total:
    if not directories:
        return Total(0, 0)
    with root.database.transaction(read_only=True) as session:
        known = below.archived(session, root.name, directories)
    files = sum(amount.files for states in known for amount in states.values())
    return Total(files, sum(states[ARCHIVE].bytes for states in known))


def _below(top: bytes, directories: Sequence[bytes]) -> Total:
    files = total = 0
    left = [top + path for path in directories]
    while left:
        found = _list(left.pop())
        left += [path for path, size_bytes in found if size_bytes is None]
        files += sum(size_bytes is not None for _, size_bytes in found)
        total += sum(size_bytes or 0 for _, size_bytes in found)
    return Total(files, total)


def _list(path: bytes) -> list[tuple[bytes, int | None]]:
    """Directories, and files with their sizes."""
    found: list[tuple[bytes, int | None]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.path, None))
                elif entry.is_file(follow_symlinks=False):
                    found.append((entry.path, entry.stat(follow_symlinks=False).st_size))
    except OSError:
        return found
    return found
