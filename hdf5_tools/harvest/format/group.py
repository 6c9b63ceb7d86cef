"""The hard links of a group; soft and external links and those of other kinds are not followed.

Source: HDF5 File Format Specification, sections III.B "Disk Format: Level 1B - Group Symbol Table
Nodes", III.D "Disk Format: Level 1D - Local Heaps", IV.A.2.c "The Link Info Message" and IV.A.2.g
"The Link Message".
"""

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache

from hdf5_tools.harvest.format import btree, messages
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.fractal_heap import FractalHeap
from hdf5_tools.harvest.format.header import Header
from hdf5_tools.harvest.format.unparsed import Unparsed

Link = tuple[bytes, int]

_BY_NAME = 5  # type of the B-tree
_RECORD = struct.Struct("<4xIHB")  # hash of the name, ID in the heap
_FEW = 2048  # bytes of records that are worth remembering
_SOFT_IN_CACHE = 2
_HARD = 0
_HAS_ORDER, _HAS_KIND, _HAS_CHARACTER_SET = 0x04, 0x08, 0x10
_ORDER_IS_TRACKED = 0x01


def links(file: File, found: Header) -> list[Link]:
    """Names and addresses of objects, in the order of names.

    Raises:
        Unparsed: damage.
    """
    if messages.SYMBOL_TABLE in found.single:
        listed = list(_symbols(file, found.single[messages.SYMBOL_TABLE][1]))
    else:
        bodies = _messages(file, found)
        if not bodies:
            return []
        address = file.forms["O"].unpack_from
        listed = []
        for body in bodies:
            if body[:2] == b"\1\0":  # the most common form: a hard link, its name up to 255 bytes
                end = 3 + body[2]
                listed.append((body[3:end], address(body, end)[0]))
            elif (link := _link(body, address)) is not None:
                listed.append(link)
    by_name = dict(listed)
    if len(by_name) < len(listed):
        raise Unparsed("a group has two links of one name")
    return sorted(by_name.items())


def _messages(file: File, found: Header) -> list[bytes]:
    _, info = found.single[messages.LINK_INFO]
    if info[0] != 0:
        raise Unparsed("unknown link info")
    at = 10 if info[1] & _ORDER_IS_TRACKED else 2
    heap, names = file.forms["OO"].unpack_from(info, at)
    if heap == file.nowhere:
        return [body for kind, _, body in found.others if kind == messages.LINK]
    records = btree.records_2(file, names, _BY_NAME, _RECORD.size)
    ids = _ids(records) if len(records) <= _FEW else _ids.__wrapped__(records)
    return FractalHeap(file, heap).objects(ids)


@lru_cache(1024)
def _ids(records: bytes) -> tuple[int, ...]:
    """IDs in the heap of 7 bytes each; groups with the same names have the same."""
    return tuple(a | b << 32 | c << 48 for a, b, c in _RECORD.iter_unpack(records))


def _link(body: bytes, address: Callable[[bytes, int], tuple[int]]) -> Link | None:
    version, flags = body[0], body[1]
    if version != 1:
        raise Unparsed("an unknown link")
    at = 2
    if flags & _HAS_KIND:
        if body[2] != _HARD:
            return None
        at = 3
    if flags & _HAS_ORDER:
        at += 8
    if flags & _HAS_CHARACTER_SET:
        at += 1
    width = 1 << (flags & 3)
    start = at + width
    end = start + int.from_bytes(body[at:start], "little")
    return body[start:end], address(body, end)[0]


def _symbols(file: File, body: bytes) -> Iterator[Link]:
    tree, heap = file.forms["OO"].unpack_from(body)
    leaves = btree.leaves_1(file, tree)
    if not leaves:
        return
    names = _local_heap(file, heap)
    node = file.forms["4sBxH"]
    entry = file.forms["OOI20x"]
    for leaf in leaves:
        signature, version, symbols = node.unpack(file.source.read(leaf, node.size))
        if signature != b"SNOD" or version != 1:
            raise Unparsed("a symbol table node is expected")
        entries = file.source.read(leaf + node.size, symbols * entry.size)
        for name, address, cached in entry.iter_unpack(entries):
            if cached > _SOFT_IN_CACHE:
                raise Unparsed("an unknown kind of symbol")
            if cached != _SOFT_IN_CACHE:
                end = names.index(0, name)
                file.source.spend(end - name)
                yield names[name:end], address


def _local_heap(file: File, address: int) -> bytes:
    form = file.forms["4sB3xLLO"]
    signature, version, size, _, data = form.unpack(file.source.read(address, form.size))
    if signature != b"HEAP" or version != 0:
        raise Unparsed("a local heap is expected")
    return file.source.read(data, size)
