"""Where replicas lie: names below one directory, reached without following any link.

The replica of NAME is NAME.incomplete until its writer has closed the file and both sides agree.
A stream that its writer has not started is NAME.incomplete.new: HDF5 waits for hours for the
checksums of what is not complete.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from datamgr import display
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError

CONTROL = b".h5mirror"
INCOMPLETE = b".incomplete"
NEW = INCOMPLETE + b".new"
_MAX_NAME_BYTES = 1024
_MAX_PART_BYTES = 220  # leaves room for what is added to the name
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_name(name: bytes) -> None:
    """Refuse what cannot be the name of a replica.

    Raises:
        InvalidError: it is empty, too long, or has a NUL.
        ForbiddenError: it leads out of the directory, or is one that the receiver uses itself.
    """
    parts = name.split(b"/")
    shown = display.printable(name[:80])
    if b"\0" in name:
        raise InvalidError(f"the name {shown} has a NUL in it")
    if len(name) > _MAX_NAME_BYTES or any(len(part) > _MAX_PART_BYTES for part in parts):
        raise InvalidError(
            f"the name {shown}… is too long: {_MAX_PART_BYTES} bytes may stand between two "
            f"slashes, {_MAX_NAME_BYTES} in all"
        )
    if name.startswith(b"/") or b".." in parts:
        raise ForbiddenError(f"the name {shown} leads out of the receiver's directory")
    if not all(parts) or b"." in parts:
        raise InvalidError(f"the name {shown!r} has an empty part")
    if parts[0] == CONTROL or INCOMPLETE in parts[-1]:
        raise ForbiddenError(f"names like {shown} are the receiver's own")


class Place:
    """The directory of a receiver, which only one of them uses at a time."""

    def __init__(self, directory: Path) -> None:
        """Lock it.

        Raises:
            NotFoundError, ForbiddenError: it is no directory that this account may write to.
            ConflictError: another receiver uses it.
        """
        shown = display.printable(directory)
        try:
            self._root = os.open(directory, os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no directory {shown}") from error
        except OSError as error:
            raise ForbiddenError(f"{shown} cannot be opened: {error.strerror}") from error
        try:
            with suppress(FileExistsError):
                os.mkdir(CONTROL, 0o700, dir_fd=self._root)
            self.control = os.open(CONTROL, _DIRECTORY, dir_fd=self._root)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(b"lock", flags, 0o600, dir_fd=self.control)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"another receiver writes into {shown}") from error
        except OSError as error:
            raise ForbiddenError(f"{shown} cannot be written to: {error.strerror}") from error

    def close(self) -> None:
        """Free the directory for another receiver."""
        for descriptor in (self._lock, self.control, self._root):
            os.close(descriptor)

    @contextmanager
    def folder(self, name: bytes, *, make: bool) -> Iterator[tuple[int, bytes]]:
        """The descriptor of the folder that `name` is in, and its last part.

        Raises:
            InvalidError, ForbiddenError: as `check_name`; or a link or a file is on the way.
            NotFoundError: there is no such folder, and `make` is not set.
        """
        check_name(name)
        *folders, leaf = name.split(b"/")
        descriptor = os.dup(self._root)
        try:
            for part in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=descriptor)
                try:
                    deeper = os.open(part, _DIRECTORY, dir_fd=descriptor)
                except FileNotFoundError as error:
                    raise NotFoundError(f"there is no {display.printable(name)}") from error
                except OSError as error:
                    raise ForbiddenError(
                        f"{display.printable(part)} in the receiver's directory is no folder"
                    ) from error
                os.close(descriptor)
                descriptor = deeper
            yield descriptor, leaf
        finally:
            os.close(descriptor)

    def journal_name(self, name: bytes) -> bytes:
        """What in the control folder belongs to a replica."""
        return hashlib.sha256(name).hexdigest()[:32].encode() + b".journal"


def open_regular(folder: int, leaf: bytes, flags: int) -> int:
    """Open a file that is neither a link nor a device.

    Raises:
        NotFoundError, ForbiddenError: there is none, or something else.
        OSError: as by `os.open`.
    """
    shown = display.printable(leaf)
    try:
        found = os.stat(leaf, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError as error:
        if not flags & os.O_CREAT:
            raise NotFoundError(f"there is no {shown}") from error
    else:
        if not stat.S_ISREG(found.st_mode):
            raise ForbiddenError(f"{shown} in the receiver's directory is no regular file")
    return os.open(leaf, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)


def set_aside(folder: int, leaf: bytes) -> None:
    """Keep what an earlier writer left under NAME.incomplete by another name."""
    stamp = datetime.now(UTC).strftime("-%Y%m%dT%H%M%S.%fZ").encode()
    with suppress(FileNotFoundError):
        partial = leaf + INCOMPLETE
        os.rename(partial, partial + stamp, src_dir_fd=folder, dst_dir_fd=folder)
