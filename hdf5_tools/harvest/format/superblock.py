"""Where a file begins: the sizes of its addresses, its root group, what it demands of a reader.

Source: HDF5 File Format Specification, section II.A "Disk Format: Level 0A - Format Signature and
Superblock".
"""

import struct
from dataclasses import dataclass

from hdf5_tools.harvest.format.checksum import verify
from hdf5_tools.harvest.format.source import Source, forms
from hdf5_tools.harvest.format.unparsed import OneOfSeveral, Unparsed

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OPEN_FOR_WRITING, _BY_SWMR = 1, 4


@dataclass(frozen=True)
class Superblock:
    """`offset`, `length`: sizes of addresses and lengths in bytes. `extension`: an object header.
    `end`: how long the file should be.

    `is_live`: a writer has the file open, who lets others read meanwhile.
    """

    offset: int
    length: int
    root: int
    extension: int | None
    end: int
    is_live: bool = False


def read(source: Source) -> Superblock:
    """The superblock at 0, 512, 1024, 2048 …; `source` counts from there afterwards.

    Raises:
        Unparsed: none there, one of several files, open for writing.
    """
    at = 0
    while source.read(at, 9)[:8] != _SIGNATURE:
        at = at * 2 or 512
    source.base = at
    version = source.read(8, 1)[0]
    if version < 2:
        return _old(source, version)
    if version < 4:
        return _new(source, version)
    raise Unparsed("an unknown superblock")


def _old(source: Source, version: int) -> Superblock:
    offset, length = _sizes(source.read(13, 2))
    at = 24 + 4 * version
    addresses = forms(offset, length)["OOOO"]
    _, _, end, driver = addresses.unpack(source.read(at, addresses.size))
    root = forms(offset, length)["OO"]
    _, address = root.unpack(source.read(at + addresses.size, root.size))
    if driver != undefined(offset):
        raise OneOfSeveral
    return Superblock(offset, length, address, None, end)


def _new(source: Source, version: int) -> Superblock:
    offset, length = _sizes(source.read(9, 2))
    form = forms(offset, length)["8xBBBBOOOO4x"]
    block = verify(source.read(0, form.size))
    _, _, _, flags, _, extension, end, root = form.unpack(block)
    if version == 3:
        flags &= _OPEN_FOR_WRITING | _BY_SWMR
    elif flags & (_OPEN_FOR_WRITING | _BY_SWMR):
        raise Unparsed("open for writing")
    is_live = flags == _OPEN_FOR_WRITING | _BY_SWMR
    if flags and not is_live:
        raise Unparsed("open for writing")
    has = extension != undefined(offset)
    return Superblock(offset, length, root, extension if has else None, end, is_live)


def _sizes(sizes: bytes) -> tuple[int, int]:
    offset, length = struct.unpack("BB", sizes)
    if offset not in (2, 4, 8) or length not in (2, 4, 8):
        raise Unparsed("addresses of an unknown size")
    return offset, length


def undefined(size: int) -> int:
    """The address of nothing."""
    return (1 << 8 * size) - 1
