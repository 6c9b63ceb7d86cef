"""What is below some paths of a managed root: files at once, then everything else."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tiering.root import ManagedRoot, Report


class Found(NamedTuple):
    """An entry of a directory, or a path that was asked for, and the number of its inode then."""

    path: bytes
    is_file: bool
    inode: int


def walk(
    root: ManagedRoot, paths: Iterable[bytes], report: Report, *, recursive: bool = True
) -> Iterator[Found]:
    """Everything at and below the paths; directories after all that is in them.

    What cannot be listed is noted in the report, and so are directories unless `recursive`. Other
    file systems are not entered.
    """
    for path in paths:
        try:
            descriptor = root.open(path, os.O_PATH | os.O_NOFOLLOW)
            status = os.fstat(descriptor)
            os.close(descriptor)
        except OSError as error:
            report.fail(path, error)
            continue
        if stat.S_ISDIR(status.st_mode) and not recursive:
            report.fail(path, "it is a directory; say -R for all that is below it")
            continue
        yield from _below(root, path, status, report)


def _below(
    root: ManagedRoot, path: bytes, status: os.stat_result, report: Report
) -> Iterator[Found]:
    if not stat.S_ISDIR(status.st_mode):
        yield Found(path, stat.S_ISREG(status.st_mode), status.st_ino)
        return
    # A stack and no recursion: a tree may be deeper than Python calls itself. The second visit
    # of a directory comes after its contents.
    stack = [(path, status.st_ino, False)]
    while stack:
        directory, number, is_listed = stack.pop()
        if is_listed:
            yield Found(directory, False, number)
            continue
        stack.append((directory, number, True))
        try:
            names = _list(root, directory)
        except OSError as error:
            report.fail(directory, error)
            continue
        for name, inode, is_directory, is_file in names:
            below = name if directory == b"." else directory + b"/" + name
            if is_directory:
                stack.append((below, inode, False))
            else:
                yield Found(below, is_file, inode)


def _list(root: ManagedRoot, directory: bytes) -> list[tuple[bytes, int, bool, bool]]:
    descriptor = root.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            return sorted(
                (
                    os.fsencode(entry.name),
                    entry.inode(),
                    entry.is_dir(follow_symlinks=False),
                    entry.is_file(follow_symlinks=False),
                )
                for entry in entries
            )
    finally:
        os.close(descriptor)
