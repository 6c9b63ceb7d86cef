"""Fractal heaps: many links or attributes of an object, and messages that objects share.

Source: HDF5 File Format Specification, section III.G "Disk Format: Level 1G - Fractal Heap".
"""

from dataclasses import dataclass
from functools import lru_cache

from hdf5_tools.harvest.format import btree
from hdf5_tools.harvest.format.checksum import verify, verify_inside
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.unparsed import Unparsed

_HUGE_BY_TREE = 1  # type of the B-tree of huge objects, unfiltered, not accessed directly
_HAS_CHECKSUMS = 2
# Of a huge object only so much is read: longer values are not kept anyway.
HUGE_BYTES = 1 << 20
_FEW = 64


class FractalHeap:
    """The heap at an address; its blocks are read when something in them is wanted first."""

    __slots__ = (
        "_address", "_blocks", "_children", "_file", "_has_checksums", "_head", "_huge",
        "_huge_tree", "_id_size", "_only", "_root", "_rows", "_shape",
    )  # fmt: skip

    def __init__(self, file: File, address: int) -> None:
        form = file.forms["5sHHBIlOlollllllllHLLHHOH4x"]
        found = form.unpack(verify(file.source.read(address, form.size)))
        signature, id_size, filters, flags, most, tree, *shape, _, root, rows = found
        if signature != b"FRHP\0" or filters:
            raise Unparsed("a fractal heap, not compressed, is expected")
        self._file = file
        self._address = address
        self._huge_tree = tree
        self._id_size = id_size
        self._has_checksums = bool(flags & _HAS_CHECKSUMS)
        self._shape = _shape(*shape, most)
        self._head = 5 + file.offset + self._shape.place
        self._root, self._rows = root, rows
        self._blocks: dict[int, bytes] = {}
        self._children: dict[int, tuple[int, ...]] = {}
        self._huge: dict[int, tuple[int, int]] | None = None
        has_one_block = not rows and root != file.nowhere
        self._only = self._read(root, 0, self._shape.start) if has_one_block else None

    def objects(self, ids: tuple[int, ...]) -> list[bytes]:
        """The objects of IDs, which are little-endian numbers, in no order; of huge objects at most
        the first `HUGE_BYTES`.

        Raises:
            Unparsed: damage, or there is none.
        """
        # Most heaps have one block, and many objects have the same IDs in theirs.
        block = self._only
        known = _slices(ids, self._shape) if block is not None and len(ids) <= _FEW else None
        if block is None or known is None:
            found = self._objects(ids)
            self._file.source.spend(sum(map(len, found)))
            return found
        slices, first, end, total = known
        if first < self._head or end > len(block):
            raise Unparsed("an object of a fractal heap lies outside of its block")
        self._file.source.left -= total
        return [block[each] for each in slices]

    def _objects(self, ids: tuple[int, ...]) -> list[bytes]:
        head, shape = self._head, self._shape
        found: list[bytes] = []
        block, base, end = b"", 0, 0
        for place, length, number in _located(ids, shape):
            if number & 0xFF:
                found.append(self._elsewhere(number.to_bytes(self._id_size, "little")))
                continue
            if not base <= place < end:
                block, base = self._find(place)
                end = base + len(block)
            at = place - base
            data = block[at : at + length]
            if len(data) < length or at < head:
                raise Unparsed("an object of a fractal heap lies outside of its block")
            found.append(data)
        return found

    def _elsewhere(self, heap_id: bytes) -> bytes:
        if heap_id[0] == 0x10:
            return self._huge_object(heap_id)
        if heap_id[0] & 0xF0 == 0x20:
            return self._tiny(heap_id)
        raise Unparsed("an unknown ID in a fractal heap")

    def _find(self, place: int) -> tuple[bytes, int]:
        """The direct block that has a position, and where that block starts."""
        if self._only is not None:
            return self._only, 0
        address, rows, base = self._root, self._rows, 0
        while rows:
            entry, start, size = self._entry(place - base)
            row = entry // self._shape.width
            if row >= rows:
                raise Unparsed("a position is outside of its fractal heap")
            address = self._indirect(address, base, rows)[entry]
            base += start
            if row < self._shape.direct_rows:
                return self._direct(address, base, size), base
            rows = (size // self._shape.first_row).bit_length()
        raise Unparsed("a fractal heap is empty")

    def _entry(self, place: int) -> tuple[int, int, int]:
        """Which entry of an indirect block has a position; where it starts, and its size."""
        shape = self._shape
        row = (place // shape.first_row).bit_length()
        size = shape.start << max(row - 1, 0)
        start = shape.first_row << (row - 1) if row else 0
        column = (place - start) // size
        return row * shape.width + column, start + column * size, size

    def _indirect(self, address: int, base: int, rows: int) -> tuple[int, ...]:
        children = self._children.get(address)
        if children is None:
            pointers = self._file.forms[f"{rows * self._shape.width}O"]
            size = self._head + pointers.size + 4
            block = verify(self._file.source.read(address, size))
            self._check_head(block, b"FHIB\0", base)
            children = self._children[address] = pointers.unpack_from(block, self._head)
        return children

    def _direct(self, address: int, base: int, size: int) -> bytes:
        block = self._blocks.get(address)
        if block is None:
            block = self._blocks[address] = self._read(address, base, size)
        return block

    def _read(self, address: int, base: int, size: int) -> bytes:
        block = self._file.source.read(address, size)
        if self._has_checksums:
            verify_inside(block, self._head)
        self._check_head(block, b"FHDB\0", base)
        return block

    def _check_head(self, block: bytes, signature: bytes, base: int) -> None:
        found, heap = self._file.forms["5sO"].unpack_from(block)
        place = int.from_bytes(block[self._head - self._shape.place : self._head], "little")
        if found != signature or heap != self._address or place != base:
            raise Unparsed("a block of a fractal heap is expected")

    def _huge_object(self, heap_id: bytes) -> bytes:
        pair = self._file.forms["OL"]
        if self._id_size > pair.size:
            place, length = pair.unpack_from(heap_id, 1)
        else:
            if self._huge is None:
                form = self._file.forms["OLL"]
                records = btree.records_2(self._file, self._huge_tree, _HUGE_BY_TREE, form.size)
                self._huge = {n: (place, length) for place, length, n in form.iter_unpack(records)}
            number = int.from_bytes(heap_id[1 : 1 + self._file.length], "little")
            place, length = self._huge[number]
        return self._file.source.read(place, min(length, HUGE_BYTES))

    def _tiny(self, heap_id: bytes) -> bytes:
        """Stored in the ID itself; longer than 16 bytes, the length has 12 bits."""
        if self._id_size <= 17:
            length, start = (heap_id[0] & 0x0F) + 1, 1
        else:
            length, start = ((heap_id[0] & 0x0F) << 8 | heap_id[1]) + 1, 2
        data = heap_id[start : start + length]
        if len(data) < length:
            raise Unparsed("an object of a fractal heap is longer than its ID")
        return data


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """The doubling table and the IDs of a heap. `place`: bytes of a position in the heap."""

    width: int
    start: int
    first_row: int
    direct_rows: int
    place: int
    place_mask: int
    count_at: int
    count_mask: int


@lru_cache(1024)
def _shape(width: int, start: int, direct: int, bits: int, most: int) -> _Shape:
    if not (_is_power(width) and _is_power(start) and _is_power(direct) and start <= direct):
        raise Unparsed("a fractal heap is damaged")
    if not 0 < bits <= 64:
        raise Unparsed("a fractal heap is damaged")
    place = (bits + 7) // 8
    count = min((direct.bit_length() + 6) // 8, btree.encoded_size(most))
    return _Shape(
        width, start, width * start, (direct // start).bit_length() + 1, place,
        (1 << 8 * place) - 1, 8 + 8 * place, (1 << 8 * count) - 1,
    )  # fmt: skip


def _located(ids: tuple[int, ...], shape: _Shape) -> list[tuple[int, int, int]]:
    """Place, length and ID of objects, in the order of their places."""
    mask, count_at, count_mask = shape.place_mask, shape.count_at, shape.count_mask
    return sorted([(n >> 8 & mask, n >> count_at & count_mask, n) for n in ids])


@lru_cache(4096)
def _slices(ids: tuple[int, ...], shape: _Shape) -> tuple[list[slice], int, int, int] | None:
    """Where objects are in the only block of a heap; the start of the first, the end of the last,
    and how long they are together.
    """
    if not ids or any(number & 0xFF for number in ids):
        return None
    slices = [slice(place, place + length) for place, length, _ in _located(ids, shape)]
    total = sum(each.stop - each.start for each in slices)
    return slices, slices[0].start, max(each.stop for each in slices), total


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
