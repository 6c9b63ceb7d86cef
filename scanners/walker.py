"""Visits directories and writes what it sees: one process's share of a walk.

Directories are opened by path, through no symbolic link, and compared with the inode that the
listing showed, so that one that was swapped for another in between leads nowhere.
"""

import ctypes
import errno
import itertools
import multiprocessing
import os
import signal
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

from datamgr.errors import DatamgrError, UnavailableError
from scanners import mounts, parts, record
from scanners.access import HIDDEN, extended, has_acl, level
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
        die_with_parent()

        def open_part(dataset: str) -> parts.PartWriter:
            return parts.PartWriter(scan_dir, dataset, number)

        walker = Walker(number << DIR_ID_SHIFT, open_part, options, counters, number * SLOTS)
        _serve(walker, pipe, hungry)
    except DatamgrError as error:
        pipe.send(error)
    except (EOFError, KeyboardInterrupt):
        pass


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends. Source: prctl(2)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        raise EOFError  # it ended before it could be named


def _serve(walker: "Walker", pipe: connection.Connection, hungry: Any) -> None:
    """Ask for work, do it, give some away, until told to end; then write what is buffered."""
    while True:
        pipe.send(None)
        given = pipe.recv()
        if given is None:
            break
        walker.stack.append(given)
        while walker.visit_next():
            if hungry.value and (shared := walker.share()):
                hungry.value = 0
                pipe.send(shared)
    pipe.send(walker.close())


class Walker:
    """A walk: a stack of directories still to visit, and the columns not yet written.

    `first_id` is below the ids that its directories get; `open_part` gives the writer of a
    dataset. What was seen is added to `counters` from `slot` on, in the order of the slots.
    """

    def __init__(
        self,
        first_id: int,
        open_part: Callable[[str], parts.PartWriter],
        options: WalkOptions,
        counters: Any,
        slot: int = 0,
    ) -> None:
        self.stack: list[Frame] = []
        self._next_id = first_id
        self._options = options
        self._counters = counters
        self._slot = slot
        self._mounts = {} if options.cross_mounts else mounts.names_by_parent()
        self._entries = EntryColumns(open_part("entries"))
        self._dirs = RowBuffer(open_part("dirs"), record.DIRS)
        self._errors = RowBuffer(open_part("errors"), record.ERRORS)
        self._error_counts: dict[str, int] = {}

    def visit_next(self) -> bool:
        """Visit the next directory; false if none is left.

        Raises:
            UnavailableError: a root cannot be listed, or the scan store not be written.
        """
        while self.stack:
            frame = self.stack[-1]
            if not frame.names:
                self.stack.pop()
                continue
            name = frame.names.pop()
            reason = self._visit(frame, name, frame.inodes.pop())
            if reason and frame.dir_id == ABOVE_ROOT:
                # An unmounted or failing file system is no empty one.
                raise UnavailableError(f"{os.fsdecode(name)} {record.REASONS[reason]}")
            return True
        return False

    def share(self) -> Frame | None:
        """Give away half of the oldest directories: they have the most below them."""
        for frame in self.stack:
            if len(frame.names) > 1 or (frame.names and frame is not self.stack[-1]):
                return frame.split()
        return None

    def close(self) -> dict[str, int]:
        """Write what is buffered; returns the number of errors by reason."""
        for columns in (self._entries, self._dirs, self._errors):
            columns.close()
        return self._error_counts

    def _visit(self, frame: Frame, name: bytes, inode: int) -> str | None:
        """Record one directory and what is in it; returns the reason if that is incomplete."""
        path = frame.child_path(name)
        try:
            descriptor = open_directory(path)
        except OSError as error:
            return self._unreadable(frame, path, error)
        try:
            return self._visit_open(frame, path, inode, descriptor)
        except OSError as error:
            return self._os_error(path, error)
        finally:
            os.close(descriptor)

    def _visit_open(self, frame: Frame, path: bytes, inode: int, descriptor: int) -> str | None:
        """As `_visit`; pushes the subdirectories."""
        status = os.fstat(descriptor)
        if status.st_ino != inode or (
            status.st_dev != frame.device and not self._options.cross_mounts
        ):
            return self._error(path, "replaced", "another directory has taken its place")
        dir_id = self._add_directory_id()
        reason: str | None
        access = HIDDEN
        if len(frame.ancestors) > self._options.max_depth:
            reason = self._error(path, "depth", f"more than {self._options.max_depth} levels")
        else:
            child = Frame(path, dir_id, (*frame.ancestors, dir_id), status.st_dev)
            reason = self._list(descriptor, child)
            if not reason:
                owner = status.st_uid, status.st_gid
                acl = has_acl(descriptor)
                access = extended(frame.access, level(path), *owner, status.st_mode, acl)
            child.access = access
            if child.names:
                self.stack.append(child)
        self._add_directory(frame, path, dir_id, status, reason, access)
        return reason

    def _list(self, descriptor: int, frame: Frame) -> str | None:
        """Record the entries of an open directory; returns the reason if it broke off."""
        try:
            with os.scandir(descriptor) as opened:
                listing = self._without_mounts(opened, descriptor, frame.path)
                # Pieces, so that a directory of any size is written as it is read.
                while self._list_piece(listing, frame) == parts.ROW_GROUP_ROWS:
                    pass
        except OSError as error:
            return self._os_error(frame.path, error)
        return None

    def _without_mounts(
        self, listing: Iterator[os.DirEntry[str]], descriptor: int, path: bytes
    ) -> Iterator[os.DirEntry[str]]:
        """The entries of a directory less those that something is mounted on, which are named.

        Device numbers do not tell: those of a bind mount may be the directory's own.
        """
        names = self._mounts.get(path)
        if names is None:
            return listing
        mounted = {name for name in names if mounts.is_mounted(name, descriptor)}
        for name in mounted:
            self._error(os.path.join(path, name), "mount", record.REASONS["mount"])
        return (entry for entry in listing if os.fsencode(entry.name) not in mounted)

    def _list_piece(self, listing: Iterator[os.DirEntry[str]], frame: Frame) -> int:
        """Take up to one row group of entries and return how many there were.

        Raises:
            OSError: the directory cannot be read further; what came before is recorded.
        """
        columns = self._entries
        before = len(columns.names)
        try:
            taken = self._take(itertools.islice(listing, parts.ROW_GROUP_ROWS), frame)
        finally:
            added = len(columns.names) - before
            columns.dir_ids.extend(array("q", (frame.dir_id,)) * added)
            self._counters[self._slot + ENTRIES] += added
        if len(columns.names) >= parts.ROW_GROUP_ROWS:
            columns.flush()
        return taken

    def _take(self, listing: Iterator[os.DirEntry[str]], frame: Frame) -> int:
        """Record entries and return how many there were; the hot loop of the program.

        A stat result sliced as a tuple gives ten numbers for the price of one.
        """
        columns, device = self._entries, frame.device
        add_name, add_blocks = columns.names.append, columns.blocks.append
        # A stat result types its times as floats; as a tuple it holds whole seconds.
        add_numbers = cast(Any, columns.numbers.extend)
        mask, is_directory = record.FILE_TYPE_MASK, stat.S_IFDIR
        numbers = slice(INODE_COLUMNS)
        taken = 0
        for entry in listing:
            taken += 1
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                self._os_error(frame.child_path(os.fsencode(entry.name)), error)
                continue
            if status.st_mode & mask == is_directory:
                if status.st_dev == device or self._options.cross_mounts:
                    frame.add(os.fsencode(entry.name), status.st_ino)
                else:
                    path = frame.child_path(os.fsencode(entry.name))
                    self._error(path, "mount", record.REASONS["mount"])
                continue
            try:
                add_numbers(status[numbers])
            except OverflowError:  # an inode number beyond 2^63
                columns.repair(cast(tuple[int, ...], status[:INODE_COLUMNS]))
            add_name(entry.name)
            add_blocks(status.st_blocks)
        return taken

    def _add_directory_id(self) -> int:
        self._next_id += 1
        self._counters[self._slot + DIRECTORIES] += 1
        return self._next_id

    def _add_directory(
        self,
        frame: Frame,
        path: bytes,
        dir_id: int,
        status: os.stat_result,
        reason: str | None,
        access: str = HIDDEN,
    ) -> None:
        self._dirs.add(
            (
                dir_id,
                None if frame.dir_id == ABOVE_ROOT else frame.dir_id,
                path,
                len(frame.ancestors),
                (*frame.ancestors, dir_id),
                reason,
                access,
                status.st_mode,
                *map(signed, cast(tuple[int, ...], status[1:INODE_COLUMNS])),
                status.st_blocks * 512,
            )
        )

    def _unreadable(self, frame: Frame, path: bytes, error: OSError) -> str:
        """Name a directory that cannot be opened; it is counted if it can still be seen."""
        reason = self._os_error(path, error)
        try:
            with parent_of(path) as (parent, name):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            return reason
        if stat.S_ISDIR(status.st_mode):
            self._add_directory(frame, path, self._add_directory_id(), status, reason)
        return reason

    def _os_error(self, path: bytes, error: OSError) -> str:
        if error.errno in (errno.EACCES, errno.EPERM):
            reason = "permission"
        elif error.errno in (errno.ENOENT, errno.ESTALE):
            reason = "vanished"
        elif error.errno in (errno.ENOTDIR, errno.ELOOP):
            reason = "replaced"
        else:
            reason = "io"
        return self._error(path, reason, error.strerror or str(error))

    def _error(self, path: bytes, reason: str, message: str) -> str:
        self._errors.add((path, reason, message))
        self._error_counts[reason] = self._error_counts.get(reason, 0) + 1
        self._counters[self._slot + ERRORS] += 1
        return reason
