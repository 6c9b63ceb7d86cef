"""A file whose writer died is opened again: marks cleared, frames cut to those that count."""

import io
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from datamgr import display
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from hdf5_tools import append, torn
from hdf5_tools.lookup3 import lookup3

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Source: HDF5 file format specification, "Superblock", versions 2 and 3 with 8-byte addresses:
# signature, version, sizes of offsets and lengths, flags, base, extension, end of file, root.
_SUPERBLOCK = struct.Struct("<8sBBBBQQQQ")
_BEING_WRITTEN, _BY_SWMR = 0x05, 0x04
_MAX_USER_BLOCK = 1 << 30


@dataclass(frozen=True)
class Recovered:
    """What was done to a file.

    `mended`: blocks of metadata that were half written. `frames`: dataset → frames that count, for
    those of `append`.
    """

    was_marked: bool
    mended: int
    frames: dict[str, int]


def recover(path: Path) -> Recovered:
    """Make a file whose writer died readable and writable again.

    Checksums are made again where the writer was killed within a write (see `torn`), the marks "is
    being written" are cleared, the end of file that the file claims is set to its real size, and
    datasets of `append` are cut to the frames that were flushed. Frames are never removed that
    were counted. A file that needs nothing is left as it is.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is no HDF5 file, or so damaged that HDF5 cannot read it.
        ConflictError: a process of this machine has it open for writing.
    """
    shown = display.printable(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidError(f"{shown} is no regular file")
        with path.open("r+b") as file:
            writer = _writer(path)
            if writer is not None:
                raise ConflictError(f"{shown} is being written by process {writer}")
            block = _Superblock.read(file.fileno(), shown)
            was_marked = block is not None and bool(block.flags & _BEING_WRITTEN)
            mended = 0
            if block is not None and was_marked:
                mended = _mend(path, file.fileno(), block, shown)
                # Last: killed here, the next call does all of it again.
                block.clear(file.fileno())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {shown}") from error
    except PermissionError as error:
        raise ForbiddenError(f"{shown} may not be written by this account") from error
    try:
        return Recovered(was_marked, mended, _cut(path))
    except (OSError, RuntimeError, KeyError) as error:
        raise InvalidError(f"{shown} cannot be read by HDF5: {error}") from error


def clear_marks(descriptor: int, shown: str) -> bool:
    """Clear the marks "is being written" of an open file; whether there were any.

    Raises:
        InvalidError: it is no HDF5 file, or its first block is damaged.
    """
    block = _Superblock.read(descriptor, shown)
    if block is None or not block.flags & _BEING_WRITTEN:
        return False
    block.clear(descriptor)
    return True


@dataclass(frozen=True)
class _Superblock:
    """The first block of a file, of the versions that have marks. `at`: its place."""

    at: int
    fields: tuple[int, ...]

    @property
    def flags(self) -> int:
        return self.fields[4]

    @property
    def base(self) -> int:
        """To which all addresses of the file are relative."""
        return self.fields[5]

    @classmethod
    def read(cls, descriptor: int, shown: str) -> "_Superblock | None":
        """None: this version has no marks."""
        at = _superblock(descriptor, shown)
        block = os.pread(descriptor, _SUPERBLOCK.size + 4, at)
        if len(block) < _SUPERBLOCK.size + 4:
            raise InvalidError(f"{shown} ends in its first {at + 48} bytes")
        fields = _SUPERBLOCK.unpack(block[:-4])
        _, version, offsets, lengths = fields[:4]
        if version < 2:
            return None
        checksum = int.from_bytes(block[-4:], "little")
        if (offsets, lengths) != (8, 8) or lookup3(block[:-4]) != checksum:
            raise InvalidError(f"the first block of {shown} is damaged")
        return cls(at, fields)

    def cleared(self, size_bytes: int) -> bytes:
        """The block without marks, of a file of this size."""
        signature, version, offsets, lengths, _, base, extension, end, root = self.fields
        # Allocation starts at the end that the file claims: over data, were it left where the last
        # clean close put it.
        end = max(end, size_bytes)
        fields = signature, version, offsets, lengths, 0, base, extension, end, root
        block = _SUPERBLOCK.pack(*fields)
        return block + lookup3(block).to_bytes(4, "little")

    def clear(self, descriptor: int) -> None:
        os.pwrite(descriptor, self.cleared(os.fstat(descriptor).st_size), self.at)
        os.fsync(descriptor)


class _Unmarked(io.FileIO):
    """A marked file, read as if it were not.

    As a SWMR reader HDF5 would wait long for each wrong checksum to become right.
    """

    def __init__(self, path: Path, block: _Superblock) -> None:
        super().__init__(path)
        self._at, self._cleared = block.at, block.cleared(path.stat().st_size)

    def readinto(self, buffer: Any) -> int:
        at = self.tell()
        count = super().readinto(buffer)
        low = max(at, self._at)
        high = min(at + count, self._at + len(self._cleared))
        if low < high:
            part = self._cleared[low - self._at : high - self._at]
            memoryview(buffer).cast("B")[low - at : high - at] = part
        return count


def _mend(path: Path, descriptor: int, block: _Superblock, shown: str) -> int:
    if not block.flags & _BY_SWMR:
        return 0  # such a writer promises nothing before it closes the file
    try:
        with _Unmarked(path, block) as unmarked, h5py.File(unmarked, "r") as file:
            headers = list(_headers(file["/"].id, set()))
    except (OSError, RuntimeError, KeyError) as error:
        raise InvalidError(f"{shown} cannot be read by HDF5: {error}") from error
    return sum(torn.mend(descriptor, header, block.base) for header in headers)


def _headers(group: h5py.h5g.GroupID, seen: set[int]) -> Iterator[int]:
    """Where the headers of all datasets are, and of what cannot be opened."""
    links = group.links
    for name in group:
        link = links.get_info(name)
        if link.type != h5py.h5l.TYPE_HARD or link.u in seen:
            continue
        seen.add(link.u)
        try:
            opened = h5py.h5o.open(group, name)
        except (OSError, RuntimeError, KeyError):
            yield link.u
            continue
        if isinstance(opened, h5py.h5g.GroupID):
            yield from _headers(opened, seen)
        elif isinstance(opened, h5py.h5d.DatasetID):
            yield link.u


def _superblock(descriptor: int, shown: str) -> int:
    """Where it is: at 0, or behind a user block of 512 bytes times a power of two."""
    at = 0
    while at <= _MAX_USER_BLOCK:
        if os.pread(descriptor, 8, at) == _SIGNATURE:
            return at
        at = at * 2 or 512
    raise InvalidError(f"{shown} is no HDF5 file")


def _cut(path: Path) -> dict[str, int]:
    frames = {}
    with h5py.File(path, "r") as file:
        grown = []

        def visit(name: str, node: object) -> None:
            if isinstance(node, h5py.Dataset) and append.COUNTER_ATTRIBUTE in node.attrs:
                grown.append(name)

        file.visititems(visit)
        for name in grown:
            frames[name] = append.frames_written(file[name])
        surplus = [name for name in grown if file[name].shape[0] > frames[name]]
    if surplus:
        with h5py.File(path, "r+", libver="latest") as file:
            for name in surplus:
                file[name].resize(frames[name], axis=0)
    return frames


def _writer(path: Path) -> int | None:
    """A process, of those whose descriptors may be read, that has the file open for writing."""
    wanted = path.stat()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
                    continue
                flags = (process / "fdinfo" / descriptor.name).read_text().split("flags:")[1]
                if int(flags.split()[0], 8) & os.O_ACCMODE != os.O_RDONLY:
                    return int(process.name)
        except OSError:
            continue  # it ended, or is another's
    return None
