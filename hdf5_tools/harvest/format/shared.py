"""Messages that are stored once for several objects: committed datatypes, heaps of shared messages.

Source: HDF5 File Format Specification, sections IV.A.2 "Shared Message" and III.H "Disk Format:
Level 1H - Shared Object Header Message Table".
"""

from hdf5_tools.harvest.format import header, messages
from hdf5_tools.harvest.format.checksum import verify
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.fractal_heap import FractalHeap
from hdf5_tools.harvest.format.unparsed import OneOfSeveral, Unparsed

_IN_HEAP = 1


def resolve(file: File, kind: int, flags: int, body: bytes) -> bytes:
    """The message itself, of one that may be elsewhere.

    Raises:
        Unparsed: damage.
    """
    return follow(file, kind, body) if flags & messages.IS_SHARED else body


def follow(file: File, kind: int, body: bytes) -> bytes:
    """The message of a kind that is stored where `body` says.

    Raises:
        Unparsed: damage.
    """
    version, where = body[0], body[1]
    if version == 3 and where == _IN_HEAP:
        return in_heap(file, kind, int.from_bytes(body[2:10], "little"))
    address_at = {1: 8 + file.length, 2: 2, 3: 2}.get(version)
    if address_at is None:
        raise Unparsed("an unknown shared message")
    address = file.forms["O"].unpack_from(body, address_at)[0]
    committed = file.committed.get((kind, address))
    if committed is None:
        found = header.read(file, address).single.get(kind)
        if found is None or found[0] & messages.IS_SHARED:
            raise Unparsed("a shared message is missing")
        committed = file.committed[kind, address] = found[1]
    return committed


def in_heap(file: File, kind: int, heap_id: int) -> bytes:
    """The message of a kind in the heap of such messages.

    Raises:
        Unparsed: there is no such heap.
    """
    heap = file.shared_heaps.get(kind)
    if heap is None:
        raise Unparsed("a heap of shared messages is missing")
    return heap.objects((heap_id,))[0]


def open_heaps(file: File) -> None:
    """Find the heaps that the superblock's extension names.

    Raises:
        Unparsed: damage; a file that keeps its metadata elsewhere, or is one of several.
    """
    if file.superblock.extension is None:
        return
    extension = header.read(file, file.superblock.extension).single
    if messages.DRIVER_INFO in extension:
        raise OneOfSeveral
    if messages.CACHE_IMAGE in extension:
        raise Unparsed("its metadata is in a cache image")
    if messages.SHARED_TABLE not in extension:
        return
    _, body = extension[messages.SHARED_TABLE]
    _, address, indexes = file.forms["BOB"].unpack_from(body)
    index = file.forms["BBHIHHHOO"]
    table = verify(file.source.read(address, 4 + indexes * index.size + 4))
    if table[:4] != b"SMTB":
        raise Unparsed("a table of shared messages is expected")
    for _, _, kinds, _, _, _, _, _, heap in index.iter_unpack(table[4:-4]):
        if heap == file.nowhere:
            continue
        opened = FractalHeap(file, heap)
        for kind in range(16):
            if kinds >> kind & 1:
                file.shared_heaps[kind] = opened
