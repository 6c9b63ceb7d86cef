"""B-trees: version 1 of groups, version 2 of links and attributes in fractal heaps.

Source: HDF5 File Format Specification, sections III.A.1 "Version 1 B-trees" and III.A.2
"Version 2 B-trees".
"""

from functools import lru_cache

from hdf5_tools.harvest.format.checksum import verify
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.unparsed import Unparsed

_GROUPS = 0
_MAX_DEPTH = 32
_SMALL = 2048  # bytes of a leaf that is worth remembering
_OVERHEAD_2 = 10  # signature, version, type, checksum


def leaves_1(file: File, address: int) -> list[int]:
    """The addresses of the symbol table nodes of a group.

    Raises:
        Unparsed: damage.
    """
    form = file.forms["4sBBHOO"]
    pair = file.forms["LO"]
    found: list[int] = []
    waiting: list[tuple[int, int | None]] = [(address, None)]
    seen: set[int] = set()
    while waiting:
        address, expected = waiting.pop()
        if address in seen:
            raise Unparsed("a B-tree has a loop")
        seen.add(address)
        head = file.source.read(address, form.size)
        signature, kind, level, entries, _, _ = form.unpack(head)
        if signature != b"TREE" or kind != _GROUPS or expected not in (None, level):
            raise Unparsed("a node of a B-tree is expected")
        keys = file.source.read(address + form.size, entries * pair.size)
        children = [child for _, child in pair.iter_unpack(keys)]
        if level:
            waiting += [(child, level - 1) for child in children]
        else:
            found += children
    return found


def records_2(file: File, address: int, kind: int, record_size: int) -> bytes:
    """The records of a tree of a kind ("type" in the specification), one after the other.

    Raises:
        Unparsed: damage, a tree of another kind.
    """
    form = file.forms["5sBIHH2xOHL4x"]
    head = form.unpack(verify(file.source.read(address, form.size)))
    signature, found_kind, node, size, depth, root, entries, total = head
    if signature != b"BTHD\0" or found_kind != kind or depth > _MAX_DEPTH:
        raise Unparsed("a B-tree is expected")
    if not entries:
        return b""
    if size != record_size or node < _OVERHEAD_2 + size:
        raise Unparsed("a B-tree is damaged")
    if not depth and entries == total:
        length = entries * size + _OVERHEAD_2
        if length > node:
            raise Unparsed("a node of a B-tree is too full")
        leaf = file.source.read(root, length)
        return _leaf(leaf, kind) if length <= _SMALL else _leaf.__wrapped__(leaf, kind)
    records: list[bytes] = []
    waiting = [(root, entries, depth)]
    seen: set[int] = set()
    counts = _counts(file.offset, node, size, depth)
    while waiting:
        address, entries, depth = waiting.pop()
        if address in seen:
            raise Unparsed("a B-tree has a loop")
        seen.add(address)
        pointers = counts.pointer(depth) * (entries + 1) if depth else 0
        used = 6 + entries * size + pointers
        if used + 4 > node:
            raise Unparsed("a node of a B-tree is too full")
        block = verify(file.source.read(address, used + 4))
        if block[:6] != (b"BTIN" if depth else b"BTLF") + bytes((0, kind)):
            raise Unparsed("a node of a B-tree is expected")
        end = 6 + entries * size
        records.append(block[6:end])
        if depth:
            width = counts.pointer(depth)
            for at in range(end, used, width):
                child = int.from_bytes(block[at : at + file.offset], "little")
                behind = at + file.offset
                count = int.from_bytes(block[behind : behind + counts.width], "little")
                waiting.append((child, count, depth - 1))
    joined = b"".join(records)
    if len(joined) != total * size:
        raise Unparsed("a B-tree has lost records")
    return joined


class _Counts:
    """How many bytes the counts of records take in a pointer to a child.

    Source: the specification's formulas for "Number of Records for Child Node" and "Total Number
    of Records in Child Node".
    """

    def __init__(self, offset: int, node: int, size: int, depth: int) -> None:
        most = (node - _OVERHEAD_2) // size
        self.width = encoded_size(most)
        self._pointers = [0]
        below, below_width = most, 0
        for _ in range(depth):
            pointer = offset + self.width + below_width
            self._pointers.append(pointer)
            most = max((node - _OVERHEAD_2 - pointer) // (size + pointer), 0)
            below = (most + 1) * below + most
            below_width = encoded_size(below)

    def pointer(self, depth: int) -> int:
        """The size of a pointer in a node at a depth, counted from the leaves."""
        return self._pointers[depth]


@lru_cache(4096)
def _leaf(block: bytes, kind: int) -> bytes:
    """The records of a leaf. Objects with attributes of the same names have the same, once more."""
    if verify(block)[:6] != b"BTLF" + bytes((0, kind)):
        raise Unparsed("a node of a B-tree is expected")
    return block[6:-4]


@lru_cache(1024)
def _counts(offset: int, node: int, size: int, depth: int) -> _Counts:
    return _Counts(offset, node, size, depth)


def encoded_size(limit: int) -> int:
    """Bytes that hold numbers up to a limit."""
    return max(limit.bit_length() - 1, 0) // 8 + 1
