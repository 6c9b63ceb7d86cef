"""One walking process: visits directories and writes what it sees.

Directories are opened by path and then compared with the inode that the listing showed, so that
a directory swapped for a symbolic link in between leads nowhere.
"""

import ctypes
import errno
import itertools
import multiprocessing
import os
import signal
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

from datamgr.errors import DatamgrError, UnavailableError
from scanners import parts, record
from scanners.columns import INODE_COLUMNS, EntryColumns, RowBuffer, signed
from scanners.directory import ABOVE_ROOT, Frame, open_directory, parent_of

# dir_ids of different processes never meet: 2^40 directories for each of 2^22 processes.
DIR_ID_SHIFT = 40

# Slots of the progress counters that each process keeps in shared memory.
ENTRIES, DIRECTORIES, ERRORS, SLOTS = 0, 1, 2, 3


@dataclass(frozen=True)
class WalkOptions:
    """How to walk; `max_depth` counts directories below a root."""

    workers: int
    max_depth: int = 1000
    cross_mounts: bool = False


def walk_process(
    number: int,
    pipe: connection.Connection,
    counters: Any,
    hungry: Any,
    scan_dir: Path,
    options: WalkOptions,
) -> None:
    """Body of a walking process: visit what is given, until told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    try:
        _die_with_parent()
        Walker(number, pipe, counters, hungry, scan_dir, options).run()
    except OSError as error:
        pipe.send(_explain_write_error(error, scan_dir))
    except DatamgrError as error:
        pipe.send(error)
    except (EOFError, KeyboardInterrupt):
        pass


def _explain_write_error(error: OSError, scan_dir: Path) -> UnavailableError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnavailableError(
            f"no space left for the scan store {scan_dir.parent}; the earlier scan stays current"
        )
    return UnavailableError(f"cannot write the scan store {scan_dir.parent}: {error}")


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends. Source: prctl(2)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        raise EOFError  # it ended before it could be named


class Walker:
    """One process's walk: a stack of frames and the columns not yet written."""

    def __init__(
        self,
        number: int,
        pipe: connection.Connection,
        counters: Any,
        hungry: Any,
        scan_dir: Path,
        options: WalkOptions,
    ) -> None:
        self._pipe = pipe
        self._counters = counters
        self._slot = number * SLOTS
        self._hungry = hungry
        self._options = options
        self._next_id = number << DIR_ID_SHIFT
        self._stack: list[Frame] = []
        self._entries = EntryColumns(parts.PartWriter(scan_dir, "entries", number))
        self._dirs = RowBuffer(parts.PartWriter(scan_dir, "dirs", number), record.DIRS)
        self._errors = RowBuffer(parts.PartWriter(scan_dir, "errors", number), record.ERRORS)
        self._error_counts: dict[str, int] = {}

    def run(self) -> None:
        """Ask for work, do it, give some away, until told to end; then write what is buffered."""
        while True:
            self._pipe.send(None)
            given = self._pipe.recv()
            if given is None:
                break
            self._stack.append(given)
            while self._stack:
                frame = self._stack[-1]
                if not frame.names:
                    self._stack.pop()
                    continue
                self._visit(frame, frame.names.pop(), frame.inodes.pop())
                if self._hungry.value:
                    self._share()
        for columns in (self._entries, self._dirs, self._errors):
            columns.close()
        self._pipe.send(self._error_counts)

    def _share(self) -> None:
        """Give away half of the oldest directories: they have the most below them."""
        for frame in self._stack:
            if len(frame.names) > 1 or (frame.names and frame is not self._stack[-1]):
                self._hungry.value = 0
                self._pipe.send(frame.split())
                return

    def _visit(self, frame: Frame, name: bytes, inode: int) -> None:
        """Record one directory and what is in it, and push its subdirectories."""
        path = frame.child_path(name)
        try:
            descriptor = open_directory(path)
        except OSError as error:
            self._unreadable(frame, path, error)
            return
        try:
            status = os.fstat(descriptor)
            if status.st_ino != inode or (
                status.st_dev != frame.device and not self._options.cross_mounts
            ):
                self._error(path, "replaced", "another directory has taken its place")
                return
            dir_id = self._add_directory_id()
            if len(frame.ancestors) > self._options.max_depth:
                reason: str | None = "depth"
                self._error(path, "depth", f"more than {self._options.max_depth} levels")
            else:
                child = Frame(path, dir_id, (*frame.ancestors, dir_id), status.st_dev)
                reason = self._list(descriptor, child)
                if child.names:
                    self._stack.append(child)
            self._add_directory(frame, path, dir_id, status, reason)
        finally:
            os.close(descriptor)

    def _list(self, descriptor: int, frame: Frame) -> str | None:
        """Record the entries of an open directory; returns the reason if it broke off."""
        columns, dir_id = self._entries, frame.dir_id
        try:
            with os.scandir(descriptor) as listing:
                # Pieces, so that a directory of any size is written as it is read.
                while True:
                    before = len(columns.names)
                    ended = self._list_piece(listing, frame)
                    added = len(columns.names) - before
                    columns.dir_ids.extend(array("q", (dir_id,)) * added)
                    self._counters[self._slot + ENTRIES] += added
                    if len(columns.names) >= parts.ROW_GROUP_ROWS:
                        columns.flush()
                    if ended:
                        return None
        except OSError as error:
            return self._os_error(frame.path, error)

    def _list_piece(self, listing: Iterator[os.DirEntry[str]], frame: Frame) -> bool:
        """Take up to one row group of entries; the hot loop of the program.

        A stat result sliced as a tuple gives ten numbers for the price of one.
        """
        columns, device = self._entries, frame.device
        add_name, add_blocks = columns.names.append, columns.blocks.append
        # A stat result types its times as floats; as a tuple it holds whole seconds.
        add_numbers = cast(Any, columns.numbers.extend)
        is_directory = stat.S_IFDIR
        taken = 0
        for entry in itertools.islice(listing, parts.ROW_GROUP_ROWS):
            taken += 1
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                self._os_error(frame.child_path(os.fsencode(entry.name)), error)
                continue
            if status.st_mode & record.FILE_TYPE_MASK == is_directory:
                if status.st_dev == device or self._options.cross_mounts:
                    frame.add(os.fsencode(entry.name), status.st_ino)
                else:
                    path = frame.child_path(os.fsencode(entry.name))
                    self._error(path, "mount", record.REASONS["mount"])
                continue
            try:
                add_numbers(status[:INODE_COLUMNS])
            except OverflowError:  # an inode number beyond 2^63
                columns.repair(cast(tuple[int, ...], status[:INODE_COLUMNS]))
            add_name(entry.name)
            add_blocks(status.st_blocks)
        return taken < parts.ROW_GROUP_ROWS

    def _add_directory_id(self) -> int:
        self._next_id += 1
        self._counters[self._slot + DIRECTORIES] += 1
        return self._next_id

    def _add_directory(
        self, frame: Frame, path: bytes, dir_id: int, status: os.stat_result, reason: str | None
    ) -> None:
        self._dirs.add(
            (
                dir_id,
                None if frame.dir_id == ABOVE_ROOT else frame.dir_id,
                path,
                len(frame.ancestors),
                (*frame.ancestors, dir_id),
                reason,
                status.st_mode,
                *map(signed, cast(tuple[int, ...], status[1:INODE_COLUMNS])),
                status.st_blocks * 512,
            )
        )

    def _unreadable(self, frame: Frame, path: bytes, error: OSError) -> None:
        """Name a directory that cannot be opened; it is counted if it can still be seen."""
        reason = self._os_error(path, error)
        try:
            with parent_of(path) as (parent, name):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            return
        if stat.S_ISDIR(status.st_mode):
            self._add_directory(frame, path, self._add_directory_id(), status, reason)

    def _os_error(self, path: bytes, error: OSError) -> str:
        if error.errno in (errno.EACCES, errno.EPERM):
            reason = "permission"
        elif error.errno in (errno.ENOENT, errno.ESTALE):
            reason = "vanished"
        elif error.errno in (errno.ENOTDIR, errno.ELOOP):
            reason = "replaced"
        else:
            reason = "io"
        self._error(path, reason, error.strerror or str(error))
        return reason

    def _error(self, path: bytes, reason: str, message: str) -> None:
        self._errors.add((path, reason, message))
        self._error_counts[reason] = self._error_counts.get(reason, 0) + 1
        self._counters[self._slot + ERRORS] += 1
