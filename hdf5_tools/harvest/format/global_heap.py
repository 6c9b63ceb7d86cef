"""The global heap: texts and sequences of variable length.

Source: HDF5 File Format Specification, section III.E "Disk Format: Level 1E - Global Heap".
"""

from hdf5_tools.harvest.format.source import Forms, Source
from hdf5_tools.harvest.format.unparsed import Unparsed

_MOST = 256  # collections that are kept; most have 4 KiB


class GlobalHeap(dict[int, dict[int, bytes]]):
    """Addresses of collections → index → object; filled when something is wanted first.

    Raises:
        Unparsed: no collection there, or damage. A KeyError means that it has no such object.
    """

    def __init__(self, source: Source, forms: Forms) -> None:
        super().__init__()
        self._source = source
        self._head = forms["4sB3xL"]
        self._object = forms["HHxxxxL"]

    def __missing__(self, address: int) -> dict[int, bytes]:
        if len(self) >= _MOST:
            self.clear()
        collection = self[address] = self._taken_apart(address)
        return collection

    def _taken_apart(self, address: int) -> dict[int, bytes]:
        signature, version, size = self._head.unpack(self._source.read(address, self._head.size))
        if signature != b"GCOL" or version != 1:
            raise Unparsed("a global heap is expected")
        block = self._source.read(address, size)
        unpack, head = self._object.unpack_from, _aligned(self._object.size)
        last = size - head
        found: dict[int, bytes] = {}
        at = _aligned(self._head.size)
        while at <= last:
            index, _, length = unpack(block, at)
            if index == 0:  # the free space, last
                break
            at += head
            data = block[at : at + length]
            if len(data) < length or index in found:
                raise Unparsed("a global heap is damaged")
            found[index] = data
            at += length + 7 & -8
        return found


def _aligned(size: int) -> int:
    return (size + 7) & ~7
