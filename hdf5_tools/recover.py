"""A file whose writer died is opened again: marks cleared, frames cut to those that count."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import h5py

from datamgr import display
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from hdf5_tools import append
from hdf5_tools.lookup3 import lookup3

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Source: HDF5 file format specification, "Superblock", versions 2 and 3 with 8-byte addresses:
# signature, version, sizes of offsets and lengths, flags, base, extension, end of file, root.
_SUPERBLOCK = struct.Struct("<8sBBBBQQQQ")
_BEING_WRITTEN = 0x05  # written by somebody; by SWMR
_MAX_USER_BLOCK = 1 << 30


@dataclass(frozen=True)
class Recovered:
    """What was done to a file. `frames`: dataset → frames that count, for those of `append`."""

    was_marked: bool
    frames: dict[str, int]


def recover(path: Path) -> Recovered:
    """Make a file whose writer died readable and writable again.

    The marks "is being written" are cleared, the end of file that the file claims is set to its
    real size, and datasets of `append` are cut to the frames that were flushed. Frames are never
    removed that were counted. A file that needs nothing is left as it is.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is no HDF5 file, or so damaged that HDF5 cannot read it.
        ConflictError: a process of this machine has it open for writing.
    """
    shown = display.printable(path)
    try:
        with path.open("r+b") as file:
            writer = _writer(path)
            if writer is not None:
                raise ConflictError(f"{shown} is being written by process {writer}")
            was_marked = _clear(file.fileno(), shown)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {shown}") from error
    except PermissionError as error:
        raise ForbiddenError(f"{shown} may not be written by this account") from error
    except IsADirectoryError as error:
        raise InvalidError(f"{shown} is a directory") from error
    try:
        return Recovered(was_marked, _cut(path))
    except (OSError, RuntimeError, KeyError) as error:
        raise InvalidError(f"{shown} cannot be read by HDF5: {error}") from error


def _clear(descriptor: int, shown: str) -> bool:
    at = _superblock(descriptor, shown)
    block = os.pread(descriptor, _SUPERBLOCK.size + 4, at)
    if len(block) < _SUPERBLOCK.size + 4:
        raise InvalidError(f"{shown} ends in its first {at + 48} bytes")
    signature, version, offsets, lengths, flags, base, extension, end, root = _SUPERBLOCK.unpack(
        block[:-4]
    )
    if version < 2:
        return False  # such files have no marks
    if (offsets, lengths) != (8, 8) or lookup3(block[:-4]) != int.from_bytes(block[-4:], "little"):
        raise InvalidError(f"the first block of {shown} is damaged")
    if not flags & _BEING_WRITTEN:
        return False
    # Allocation starts at the end that the file claims: over data, were it left where the last
    # clean close put it.
    end = max(end, os.fstat(descriptor).st_size)
    fields = signature, version, offsets, lengths, 0, base, extension, end, root
    cleared = _SUPERBLOCK.pack(*fields)
    os.pwrite(descriptor, cleared + lookup3(cleared).to_bytes(4, "little"), at)
    os.fsync(descriptor)
    return True


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
