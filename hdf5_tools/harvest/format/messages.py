"""Where the messages are in a part of an object header.

Source: HDF5 File Format Specification, section IV.A.1 "Disk Format: Level 2A1 - Data Object
Header Prefix".
"""

import struct
from dataclasses import dataclass, field

from hdf5_tools.harvest.format.unparsed import Unparsed

DATASPACE, LINK_INFO, DATATYPE, LINK, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x08
ATTRIBUTE, SHARED_TABLE, CONTINUATION, SYMBOL_TABLE = 0x0C, 0x0F, 0x10, 0x11
DRIVER_INFO, ATTRIBUTE_INFO, CACHE_IMAGE = 0x14, 0x15, 0x18
# Those that matter here and come once; there are others that need not be understood.
_ONCE = frozenset((
    DATASPACE, LINK_INFO, DATATYPE, LAYOUT, SHARED_TABLE, SYMBOL_TABLE, DRIVER_INFO,
    ATTRIBUTE_INFO, CACHE_IMAGE,
))  # fmt: skip
_KNOWN = range(0x19)

IS_SHARED = 0x02
_FAILS_IF_UNKNOWN = 0x80

# Kind, size, flags; of version 2 without and with the order of creation. All is compared but that.
VERSION_1 = struct.Struct("<HHB3x")
VERSION_2, VERSION_2_ORDERED = struct.Struct("<BHB"), struct.Struct("<BHB2x")
_COMPARED = {VERSION_1: 5, VERSION_2: 4, VERSION_2_ORDERED: 4}

# What is remembered, so that a hostile file cannot fill the memory with it.
_MOST, _OF_A_SIZE, _BYTES = 2_000, 4, 4096

Place = tuple[int, int, slice]


@dataclass(slots=True)
class Places:
    """Where bodies are: `attributes`, of messages that come once the first (`single`: kind, flags,
    place), links and shared attributes (`others`), and `continuations`.

    True of parts that are alike where `mask` has ones.
    """

    attributes: list[slice] = field(default_factory=list)
    single: list[Place] = field(default_factory=list)
    others: list[Place] = field(default_factory=list)
    continuations: list[slice] = field(default_factory=list)
    mask: int = 0
    pattern: int = 0


class Walks:
    """Walks through parts of object headers; those that come again are remembered."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, struct.Struct], list[Places]] = {}

    def walk(self, part: bytes, at: int, end: int, form: struct.Struct) -> Places:
        """The messages between two positions.

        Raises:
            Unparsed: damage, a message that must be understood and is not.
        """
        key = at, end, form
        known = self._known.get(key)
        if known:
            number = int.from_bytes(part, "little")
            for places in known:
                if number & places.mask == places.pattern:
                    return places
        places = _walk(part, at, end, form)
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = []
        elif len(known) < _OF_A_SIZE and end <= _BYTES:
            places.mask = _mask(part, at, end, form)
            places.pattern = places.mask & int.from_bytes(part, "little")
            known.append(places)
        return places


def _walk(part: bytes, at: int, end: int, form: struct.Struct) -> Places:
    places = Places()
    seen: set[int] = set()
    unpack, size = form.unpack_from, form.size
    last = end - size
    while at <= last:
        kind, length, flags = unpack(part, at)
        body = slice(at + size, at + size + length)
        at = body.stop
        if at > end:
            raise Unparsed("a message is longer than its object header")
        if kind == ATTRIBUTE and not flags & IS_SHARED:
            places.attributes.append(body)
        elif kind in (ATTRIBUTE, LINK):
            places.others.append((kind, flags, body))
        elif kind == CONTINUATION:
            places.continuations.append(body)
        elif kind in _ONCE and kind not in seen:
            seen.add(kind)
            places.single.append((kind, flags, body))
        elif kind not in _KNOWN and flags & _FAILS_IF_UNKNOWN:
            raise Unparsed("an unknown message")
    if at != end and form is VERSION_1:
        raise Unparsed("an object header has a gap")
    return places


def _mask(part: bytes, at: int, end: int, form: struct.Struct) -> int:
    """Ones over the heads of messages."""
    mask = bytearray(len(part))
    compared = _COMPARED[form]
    while at <= end - form.size:
        mask[at : at + compared] = b"\xff" * compared
        at += form.size + form.unpack_from(part, at)[1]
    return int.from_bytes(mask, "little")
