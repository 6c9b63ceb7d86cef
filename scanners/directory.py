"""Directories as the walk handles them: safe opening at any depth, and those still to visit."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scanners import nofollow
from scanners.access import above_root

# Longest path that one system call takes, its final NUL included. Source: path_resolution(7).
PATH_MAX = 4096

# Real directory numbers begin at 1.
ABOVE_ROOT = 0

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Frame:
    """A listed directory and its subdirectories that are still to visit.

    Names and inode numbers are two lists, for a directory may have a million subdirectories.
    `dir_id` is ABOVE_ROOT above a root. `access` says who may list it, see `scanners.access`.
    """

    path: bytes
    dir_id: int
    ancestors: tuple[int, ...]
    device: int
    names: list[bytes] = field(default_factory=list)
    inodes: list[int] = field(default_factory=list)
    # A mode above a root that changes during a walk makes it no other root.
    access: str = field(default="", compare=False)

    def add(self, name: bytes, inode: int) -> None:
        """Remember a subdirectory."""
        self.names.append(name)
        self.inodes.append(inode)

    def child_path(self, name: bytes) -> bytes:
        """The path of an entry of this directory."""
        return name if name.startswith(b"/") else os.path.join(self.path, name)

    def split(self) -> "Frame":
        """Take half of the subdirectories away, into a frame for another process."""
        half = len(self.names) // 2
        other = Frame(
            self.path,
            self.dir_id,
            self.ancestors,
            self.device,
            self.names[half:],
            self.inodes[half:],
            self.access,
        )
        del self.names[half:], self.inodes[half:]
        return other


def root_frame(root: bytes) -> Frame:
    """The frame above a root: an absolute path whose symbolic links are resolved.

    Raises:
        OSError: the root vanished.
    """
    status = os.stat(root, follow_symlinks=False)
    inodes = [status.st_ino]
    return Frame(b"", ABOVE_ROOT, (), status.st_dev, [root], inodes, above_root(root))


def open_directory(path: bytes) -> int:
    """A descriptor of the directory at an absolute path of any length, through no symbolic link.

    The access time of the directory stays as it is where the account may ask for that.

    Raises:
        OSError: as open(2); ELOOP or ENOTDIR for a symbolic link.
    """
    limit = PATH_MAX if nofollow.takes_paths() else 0
    if len(path) < limit:
        return _open_at(path, None)
    descriptor = os.open("/", _STEP)
    try:
        for piece in _pieces(path, limit):
            deeper = nofollow.open_at(piece, _STEP, descriptor)
            os.close(descriptor)
            descriptor = deeper
        return _open_at(b".", descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def parent_of(path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory above `path`, open, and the last name of `path`."""
    head, name = os.path.split(path)
    descriptor = open_directory(head or b"/")
    try:
        yield descriptor, name or b"."
    finally:
        os.close(descriptor)


def _open_at(path: bytes, parent: int | None) -> int:
    try:
        return nofollow.open_at(path, _OPEN | os.O_NOATIME, parent)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    # O_NOATIME is for the owner and root only. Source: open(2).
    return nofollow.open_at(path, _OPEN, parent)


def _pieces(path: bytes, limit: int) -> list[bytes]:
    """The path cut at slashes into relative pieces of at most `limit` bytes, one name at least."""
    pieces: list[bytes] = []
    for name in path.split(b"/"):
        if not name:
            continue
        if pieces and len(pieces[-1]) + len(name) + 2 <= limit:
            pieces[-1] += b"/" + name
        else:
            pieces.append(name)
    return pieces
