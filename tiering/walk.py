"""What is below some paths of a managed root: files at once, then everything else."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tiering.root import ManagedRoot, Report


@dataclass(frozen=True)
class Found:
    """An entry of a directory, or a path that was asked for."""

    path: bytes
    is_file: bool


def walk(root: ManagedRoot, paths: Iterable[bytes], report: Report) -> Iterator[Found]:
    """Everything at and below the paths; directories after all that is in them.

    What cannot be listed is noted in the report. Other file systems are not entered.
    """
    for path in paths:
        try:
            descriptor = root.open(path, os.O_PATH | os.O_NOFOLLOW)
            mode = os.fstat(descriptor).st_mode
            os.close(descriptor)
        except OSError as error:
            report.fail(path, error)
            continue
        yield from _below(root, path, mode, report)


def _below(root: ManagedRoot, path: bytes, mode: int, report: Report) -> Iterator[Found]:
    if not stat.S_ISDIR(mode):
        yield Found(path, stat.S_ISREG(mode))
        return
    # A stack and no recursion: a tree may be deeper than Python calls itself. The second visit
    # of a directory comes after its contents.
    stack = [(path, False)]
    while stack:
        directory, is_listed = stack.pop()
        if is_listed:
            yield Found(directory, False)
            continue
        stack.append((directory, True))
        try:
            names = _list(root, directory)
        except OSError as error:
            report.fail(directory, error)
            continue
        for name, is_directory, is_file in names:
            below = name if directory == b"." else directory + b"/" + name
            if is_directory:
                stack.append((below, False))
            else:
                yield Found(below, is_file)


def _list(root: ManagedRoot, directory: bytes) -> list[tuple[bytes, bool, bool]]:
    descriptor = root.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            return sorted(
                (
                    os.fsencode(entry.name),
                    entry.is_dir(follow_symlinks=False),
                    entry.is_file(follow_symlinks=False),
                )
                for entry in entries
            )
    finally:
        os.close(descriptor)
