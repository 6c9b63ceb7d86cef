"""One replica on the receiver's side: a file that follows the writes of another."""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from datamgr import display
from datamgr.errors import (
    DatamgrError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from hdf5_tools import recover
from hdf5_tools.mirror import place, protocol, ranges, undo
from hdf5_tools.mirror.place import INCOMPLETE, NEW, Place
from hdf5_tools.mirror.protocol import Frame, Kind

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_OFFSET = 1 << 62


class Slot:
    """The files of a replica: NAME.incomplete and its journal, and NAME at last.

    A stream is NAME.incomplete.new before that.
    """

    def __init__(
        self, where: Place, name: bytes, session: bytes, *, keep: bool, is_bytes: bool = True
    ) -> None:
        """`keep`: go on with what is there, whose ever it is; otherwise that is set aside.

        `is_bytes`: the replica is written byte by byte, and taken back to its last commit;
        otherwise it is a stream, which begins anew if it was not started.

        Raises:
            DatamgrError: the name is not possible, or its files cannot be opened.
        """
        self.shown = display.printable(name)
        self._where = where
        self._journal_name = where.journal_name(name)
        with explained(self.shown), where.folder(name, make=True) as (folder, leaf):
            _require_replaceable(folder, leaf)
            self._journal_file = place.open_regular(
                where.control, self._journal_name, os.O_RDWR | os.O_CREAT
            )
            self._folder, self.leaf = os.dup(folder), leaf
            try:
                head = undo.read_head(self._journal_file)
                self.was_kept = keep or (head is not None and head.session == session)
                if not self.was_kept:
                    place.set_aside(folder, leaf)
                is_started = self.was_kept and head is not None and head.is_started
                self._present = leaf + (INCOMPLETE if is_bytes or is_started else NEW)
                self.file = place.open_regular(folder, self._present, os.O_RDWR | os.O_CREAT)
            except BaseException:
                self._close_folder()
                raise
            size = None if is_bytes else undo.NEVER if is_started else 0
            self.journal = undo.Journal(self._journal_file, self.file, name, session, size)
            if is_bytes and self.was_kept and os.fstat(self.file).st_size == 0:
                self._copy_complete()

    def settle(self) -> None:
        """Leave what there was at the last commit, readable; nothing, if there was nothing."""
        try:
            self.journal.roll_back()
            if os.fstat(self.file).st_size == 0:
                os.unlink(self._present, dir_fd=self._folder)
                self._forget()
            else:
                with suppress(InvalidError):
                    recover.clear_marks(self.file, self.shown)
        finally:
            self.close()

    def start(self) -> None:
        """A stream can be read from now on, and is not begun anew any more."""
        self.journal.commit(undo.NEVER)
        if self._present != self.leaf + INCOMPLETE:
            self._rename(self.leaf + INCOMPLETE)

    def finish(self) -> None:
        """The replica is complete: it takes its name."""
        os.fsync(self.file)
        _require_replaceable(self._folder, self.leaf)
        self._rename(self.leaf)
        os.fsync(self._folder)
        self._forget()

    @property
    def path(self) -> str:
        """A name by which this process reaches the replica, wherever its folder has gone."""
        return f"/proc/self/fd/{self._folder}/{os.fsdecode(self._present)}"

    def close(self) -> None:
        """Close the files."""
        os.close(self.file)
        self._close_folder()

    def _rename(self, leaf: bytes) -> None:
        os.rename(self._present, leaf, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._present = leaf

    def _forget(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._journal_name, dir_fd=self._where.control)

    def _close_folder(self) -> None:
        os.close(self._journal_file)
        os.close(self._folder)

    def _copy_complete(self) -> None:
        """Begin with the complete replica, of which most will still be true."""
        with suppress(FileNotFoundError):
            source = os.open(self.leaf, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder)
            with open(source, "rb") as old, open(self.file, "wb", closefd=False) as new:  # noqa: PTH123
                shutil.copyfileobj(old, new, ranges.BLOCK_BYTES)
            self.journal.commit()


class ByteReplica:
    """Bit for bit what the writer's file is."""

    def __init__(self, where: Place, name: bytes, session: bytes, hello: dict[str, Any]) -> None:
        """Raises DatamgrError as `Slot` does."""
        self._slot = Slot(where, name, session, keep=bool(hello.get("keep")))
        self.is_finished = False

    def apply(self, frame: Frame) -> bytes | None:
        """Carry one operation out; the frame to answer before it is acknowledged, if any.

        Raises:
            InvalidError: it makes no sense.
            UnavailableError: the file system does not take it.
        """
        slot = self._slot
        if frame.offset > _MAX_OFFSET:
            raise InvalidError(f"no file reaches to {frame.offset} bytes")
        with explained(slot.shown):
            if frame.kind == Kind.WRITE:
                slot.journal.before_write(frame.offset, frame.offset + len(frame.payload))
                undo.write_all(slot.file, frame.payload, frame.offset)
            elif frame.kind == Kind.TRUNCATE:
                slot.journal.before_write(frame.offset, os.fstat(slot.file).st_size)
                os.ftruncate(slot.file, frame.offset)
            elif frame.kind == Kind.COMMIT:
                slot.journal.commit()
            elif frame.kind == Kind.DIGESTS:
                return self._digests(frame)
            elif frame.kind == Kind.CLOSE:
                self._finish(frame.offset)
            else:
                raise InvalidError(f"{frame.kind.name} is no operation on bytes")
        return None

    def settle(self) -> None:
        """The writer does not come back."""
        if not self.is_finished:
            with explained(self._slot.shown):
                self._slot.settle()

    def _digests(self, frame: Frame) -> bytes:
        count = ranges.require_count(protocol.read_span(frame.payload)[1])
        found = ranges.digests(self._slot.file, frame.offset, count)
        return protocol.frame(Kind.DIGESTED, frame.number, frame.offset, found)

    def _finish(self, size_bytes: int) -> None:
        size = os.fstat(self._slot.file).st_size
        if size != size_bytes:
            raise InvalidError(
                f"{self._slot.shown} has {size} bytes here and {size_bytes} at its writer"
            )
        self._slot.finish()
        self.is_finished = True
        self._slot.close()


def roll_back_all(where: Place) -> list[str]:
    """Settle what a receiver that was killed has left; the names of these replicas."""
    settled = []
    for leaf in map(os.fsencode, os.listdir(where.control)):
        if not leaf.endswith(b".journal"):
            continue
        journal = place.open_regular(where.control, leaf, os.O_RDWR)
        try:
            head = undo.read_head(journal)
            if head is None or where.journal_name(head.name) != leaf:
                os.unlink(leaf, dir_fd=where.control)
            elif _roll_back(where, journal, head):
                settled.append(display.printable(head.name))
        except NotFoundError:
            os.unlink(leaf, dir_fd=where.control)
        except (DatamgrError, OSError) as error:
            log.warning("an incomplete replica stays as it is: %s", error)
        finally:
            os.close(journal)
    return settled


def _roll_back(where: Place, journal: int, head: undo.Head) -> bool:
    """Settle one; whether there is anything in it."""
    with where.folder(head.name, make=False) as (folder, leaf):
        with suppress(FileNotFoundError):
            os.unlink(leaf + NEW, dir_fd=folder)
        replica = place.open_regular(folder, leaf + INCOMPLETE, os.O_RDWR)
        try:
            undo.undo(journal, replica)
            if os.fstat(replica).st_size == 0:
                os.unlink(leaf + INCOMPLETE, dir_fd=folder)
                os.unlink(where.journal_name(head.name), dir_fd=where.control)
                return False
            # What is there now is where its writer goes on.
            size = undo.NEVER if head.is_started else None
            undo.Journal(os.dup(journal), replica, head.name, head.session, size).close()
            with suppress(InvalidError):
                recover.clear_marks(replica, display.printable(head.name))
            return True
        finally:
            os.close(replica)


def _require_replaceable(folder: int, leaf: bytes) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(leaf, dir_fd=folder, follow_symlinks=False).st_mode):
            raise ForbiddenError(
                f"{display.printable(leaf)} in the receiver's directory is no regular file"
            )


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn what the file system says into what the writer is told."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UnavailableError(f"the receiver has no space left for {shown}") from error
        reason = error.strerror or str(error)
        raise UnavailableError(f"the receiver cannot write {shown}: {reason}") from error
