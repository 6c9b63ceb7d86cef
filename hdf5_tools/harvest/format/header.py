"""The messages of an object: what a group, dataset or datatype consists of.

Source: HDF5 File Format Specification, sections IV.A.1 "Disk Format: Level 2A1 - Data Object
Header Prefix" and IV.A.2 "Disk Format: Level 2A2 - Data Object Header Messages".
"""

import struct

from hdf5_tools.harvest.format import messages
from hdf5_tools.harvest.format.checksum import verify
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.messages import Places
from hdf5_tools.harvest.format.unparsed import Unparsed

_TRACKS_ORDER, _HAS_PHASES, _HAS_TIMES = 0x04, 0x10, 0x20
# What is read of an object first; most are shorter.
_AT_ONCE = 512
_PREFIX_1 = 16


class Header:
    """The messages of an object. Of those that come once, `single` has flags and body by kind;
    `attributes` are the bodies of those that are here; `others` are kinds, flags and bodies of
    links, and of attributes that are elsewhere.
    """

    __slots__ = ("attributes", "others", "single")

    def __init__(self) -> None:
        self.single: dict[int, tuple[int, bytes]] = {}
        self.attributes: list[bytes] = []
        self.others: list[tuple[int, int, bytes]] = []

    def take(self, part: bytes, places: Places) -> None:
        """Take in the messages of a part; they come after those that are here."""
        single = self.single
        self.attributes += [part[where] for where in places.attributes]
        for kind, flags, where in places.single:
            if kind not in single:
                single[kind] = flags, part[where]
        for kind, flags, where in places.others:
            self.others.append((kind, flags, part[where]))


def read(file: File, address: int) -> Header:
    """The messages of the object at an address.

    Raises:
        Unparsed: no object header there, damage, a message that must be understood and is not.
    """
    start = file.source.peek(address, _AT_ONCE)
    if start[:4] == b"OHDR":
        prefix, size, form = _version_2(start)
    elif start[0] == 1:
        prefix, size, form = _PREFIX_1, int.from_bytes(start[8:12], "little"), messages.VERSION_1
    else:
        raise Unparsed("an object header is expected")
    has_checksums = form is not messages.VERSION_1
    header = Header()
    parts = [(address, prefix + size)]
    seen = {address}
    for place, size in parts:
        part = start[:size] if place == address else b""
        if len(part) < size:
            part = file.source.read(place, size)
        at = prefix if place == address else 4 if has_checksums else 0
        if at < prefix and part[:at] != b"OCHK"[:at]:
            raise Unparsed("the continuation of an object header is expected")
        if has_checksums:
            verify(part)
        places = file.walks.walk(part, at, size - 4 if has_checksums else size, form)
        header.take(part, places)
        for where in places.continuations:
            further = file.forms["OL"].unpack_from(part[where])
            if further[0] in seen:
                raise Unparsed("an object header continues in itself")
            seen.add(further[0])
            parts.append(further)
    return header


def _version_2(start: bytes) -> tuple[int, int, struct.Struct]:
    """Where the messages begin, how long they are with their checksum, and their form."""
    version, flags = start[4], start[5]
    if version != 2:
        raise Unparsed("an unknown object header")
    at = 6 + (16 if flags & _HAS_TIMES else 0) + (4 if flags & _HAS_PHASES else 0)
    prefix = at + (1 << (flags & 3))
    size = int.from_bytes(start[at:prefix], "little") + 4
    is_ordered = flags & _TRACKS_ORDER
    return prefix, size, messages.VERSION_2_ORDERED if is_ordered else messages.VERSION_2
