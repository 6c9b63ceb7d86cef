"""Blocks of metadata of which a killed writer left half: found, and their checksums made again.

The kernel ends a write between two pages when its process is killed. Such a block is new before the
border and old behind it, so that HDF5 refuses its checksum, and with it every chunk that it lists.
What `append` writes over is the size of a dataset and the addresses of its last chunks: what was
there at the last flush stands in the old bytes and in the new ones.

Source: HDF5 file format specification 3.0, "Object Headers" (version 2), "Data Layout Message"
(version 4) and "Extensible Array".
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hdf5_tools.lookup3 import lookup3

_CHECKSUM = 4
_LAYOUT, _CONTINUATION = 0x08, 0x10
_CHUNKED, _BY_EXTENSIBLE_ARRAY = 2, 4
_UNDEFINED = (1 << 64) - 1


def mend(descriptor: int, header: int, base: int = 0) -> int:
    """Make the checksums again that are wrong in a dataset's header and in the index of its chunks.

    `header`: where its object header is, in bytes behind `base`. How many were wrong. Headers of
    version 1, which have no checksum, and other indexes are left as they are.
    """
    file = _File(descriptor, base)
    layout = None
    for messages in _header_blocks(file, header):
        layout = messages.get(_LAYOUT, layout)
    index = None if layout is None else _index_of(layout)
    if index is not None:
        _mend_index(file, index)
    return file.mended


@dataclass
class _File:
    descriptor: int
    base: int
    mended: int = 0

    def read(self, at: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, self.base + at)

    def checked(self, at: int, length: int, signature: bytes | None = None) -> bytes | None:
        """A block without its checksum, which is right afterwards; None if it is not one."""
        block = self.read(at, length)
        if len(block) < length or (signature is not None and block[:4] != signature):
            return None
        content = block[:-_CHECKSUM]
        checksum = lookup3(content).to_bytes(_CHECKSUM, "little")
        if block[-_CHECKSUM:] != checksum:
            os.pwrite(self.descriptor, checksum, self.base + at + len(content))
            self.mended += 1
        return content


def _header_blocks(file: _File, header: int) -> Iterator[dict[int, bytes]]:
    """The messages of each block of an object header, by type."""
    start = file.read(header, 6)
    if start[:5] != b"OHDR\x02":
        return
    flags = start[5]
    prefix = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    size_bytes = 1 << (flags & 3)
    size = int.from_bytes(file.read(header + prefix, size_bytes), "little")
    blocks = [(header, prefix + size_bytes, prefix + size_bytes + size + _CHECKSUM, b"OHDR")]
    while blocks:
        at, begin, length, signature = blocks.pop()
        content = file.checked(at, length, signature)
        if content is None:
            continue
        messages = dict(_messages(content, begin, tracked=bool(flags & 0x04)))
        if _CONTINUATION in messages:
            blocks.append((*_continued(messages[_CONTINUATION]), b"OCHK"))
        yield messages


def _continued(message: bytes) -> tuple[int, int, int]:
    at, length = struct.unpack_from("<QQ", message)
    return at, 4, length


def _messages(content: bytes, begin: int, tracked: bool) -> Iterator[tuple[int, bytes]]:
    head = 6 if tracked else 4
    while begin + head <= len(content):
        kind, size = struct.unpack_from("<BH", content, begin)
        yield kind, content[begin + head : begin + head + size]
        begin += head + size


def _index_of(layout: bytes) -> int | None:
    """Where the extensible array of the chunks is, if that is their index."""
    if layout[0] not in (4, 5) or layout[1] != _CHUNKED:
        return None
    dimensions, width = layout[3], layout[4]
    at = 5 + dimensions * width
    if layout[at] != _BY_EXTENSIBLE_ARRAY:
        return None
    address = int.from_bytes(layout[at + 6 : at + 14], "little")
    return None if address == _UNDEFINED else address


def _mend_index(file: _File, at: int) -> None:
    header = file.checked(at, 72, b"EAHD")
    if header is None:
        return
    array = _Array(*header[6:12])
    [block] = struct.unpack_from("<Q", header, 60)
    if block == _UNDEFINED:
        return
    count, supers = array.direct_data_blocks, array.super_blocks
    indirect = max(0, supers - array.direct_super_blocks)
    fixed = 14 + array.in_index * array.element
    content = file.checked(block, fixed + 8 * (count + indirect) + _CHECKSUM, b"EAIB")
    if content is None:
        return
    addresses = struct.unpack_from(f"<{count + indirect}Q", content, fixed)
    data = iter(addresses[:count])
    for number in range(array.direct_super_blocks):
        for _, address in zip(range(array.data_blocks(number)), data, strict=False):
            _mend_data(file, array, address, array.elements(number))
    for number, address in enumerate(addresses[count:], array.direct_super_blocks):
        _mend_super(file, array, address, number)


def _mend_super(file: _File, array: "_Array", at: int, number: int) -> None:
    if at == _UNDEFINED:
        return
    count, elements = array.data_blocks(number), array.elements(number)
    fixed = 14 + array.offset_width + count * array.page_flags(elements)
    content = file.checked(at, fixed + 8 * count + _CHECKSUM, b"EASB")
    if content is not None:
        for address in struct.unpack_from(f"<{count}Q", content, fixed):
            _mend_data(file, array, address, elements)


def _mend_data(file: _File, array: "_Array", at: int, elements: int) -> None:
    if at == _UNDEFINED:
        return
    fixed = 14 + array.offset_width
    if elements <= array.page:
        file.checked(at, fixed + elements * array.element + _CHECKSUM, b"EADB")
    elif file.checked(at, fixed + _CHECKSUM, b"EADB") is not None:
        page = array.page * array.element + _CHECKSUM
        for start in range(elements // array.page):
            place = at + fixed + _CHECKSUM + start * page
            # One that no chunk is in yet was never written.
            if any(file.read(place, page)):
                file.checked(place, page)


class _Array:
    """How an extensible array shares its elements out, from its header."""

    def __init__(
        self, element: int, max_bits: int, in_index: int, least: int, pointers: int, page_bits: int
    ) -> None:
        self.element = element
        self.in_index = in_index
        self.least = least
        self.page = 1 << page_bits
        self.offset_width = (max_bits + 7) // 8
        self.super_blocks = 1 + max_bits - (least.bit_length() - 1)
        # The data blocks of the first super blocks stand in the index block itself.
        self.direct_super_blocks = 2 * (pointers.bit_length() - 1)
        self.direct_data_blocks = 2 * (pointers - 1)

    def data_blocks(self, number: int) -> int:
        return 1 << (number // 2)

    def elements(self, number: int) -> int:
        """Of each data block of a super block."""
        return (1 << ((number + 1) // 2)) * self.least

    def page_flags(self, elements: int) -> int:
        """Bytes that say which pages of a data block were written."""
        return 0 if elements <= self.page else (elements // self.page + 7) // 8
