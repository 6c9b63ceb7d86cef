"""Which ranges of two files differ, by the hashes of their blocks."""

import os
from collections.abc import Iterable, Iterator

import xxhash

from datamgr.errors import InvalidError

BLOCK_BYTES = 1 << 20
DIGEST_BYTES = 16
MAX_BLOCKS = 64  # of one request


def digests(descriptor: int, first: int, count: int) -> bytes:
    """XXH3-128 of each of `count` blocks, 16 bytes each; of nothing behind the end of the file."""
    buffer = bytearray(BLOCK_BYTES)
    return b"".join(digest(descriptor, block, buffer) for block in range(first, first + count))


def digest(descriptor: int, block: int, buffer: bytearray) -> bytes:
    """XXH3-128 of one block, read by way of a buffer of `BLOCK_BYTES`."""
    return digest_of(read_block(descriptor, block, buffer))


def digest_of(data: bytes | memoryview) -> bytes:
    """XXH3-128."""
    return xxhash.xxh3_128_digest(data)


def read_block(descriptor: int, block: int, buffer: bytearray) -> memoryview:
    """The bytes of a block, fewer at the end of the file."""
    view = memoryview(buffer)
    got = 0
    while got < BLOCK_BYTES:
        count = os.preadv(descriptor, [view[got:]], block * BLOCK_BYTES + got)
        if count == 0:
            break
        got += count
    return view[:got]


def require_count(count: int) -> int:
    """The same number.

    Raises:
        InvalidError: so many digests may not be asked for at once.
    """
    if not 0 < count <= MAX_BLOCKS:
        raise InvalidError(f"{count} digests were asked for; {MAX_BLOCKS} are possible at once")
    return count


def blocks_of(size_bytes: int) -> int:
    """How many blocks a file of this size has."""
    return -(-size_bytes // BLOCK_BYTES)


def split(digests: bytes | memoryview) -> Iterator[bytes]:
    """One digest after the other."""
    for at in range(0, len(digests), DIGEST_BYTES):
        yield bytes(digests[at : at + DIGEST_BYTES])


def merged(blocks: Iterable[int], size_bytes: int) -> list[tuple[int, int]]:
    """Ascending blocks as ranges (begin, end) in bytes, end exclusive, neighbours put together."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        begin, end = block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, size_bytes)
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found
