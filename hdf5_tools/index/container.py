"""Named arrays in one file, mapped when it is opened.

Layout: the arrays, each at a multiple of 64 bytes; then a JSON object {name: [offset, dtype,
count]}; then its offset, its length and its CRC-32 (three little-endian 64-bit numbers) and eight
bytes of signature. What is mapped stays readable when the file is unlinked.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamgr import display
from datamgr.errors import InvalidError

Array = npt.NDArray[Any]

_SIGNATURE = b"DMGRIDX1"
_TRAILER = struct.Struct("<QQQ8s")
_ALIGNMENT = 64


def damaged(path: Path, how: str) -> InvalidError:
    """What to say of a file of an index."""
    folder = display.printable(path.parent)
    return InvalidError(
        f"{path.name} of the index {folder} {how}; remove the index and make it again by "
        "`datamgr hdf5 index`"
    )


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a file that does not exist, and wait until it is on disk; an error leaves none."""
    try:
        _write(path, arrays)
    except OSError:
        path.unlink(missing_ok=True)  # what there is of it may be what fills the disk
        raise


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("xb") as file:
        contents = {}
        for name, array in arrays.items():
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            contents[name] = [file.tell(), array.dtype.str, len(array)]
            file.write(np.ascontiguousarray(array).data)
        listed = json.dumps(contents).encode()
        begin = file.tell()
        file.write(listed)
        file.write(_TRAILER.pack(begin, len(listed), zlib.crc32(listed), _SIGNATURE))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[mmap.mmap, dict[str, int], dict[str, Array]]:
    """Map a file; where each of its arrays begins; and the arrays, which cannot be written to.

    Raises:
        FileNotFoundError: it is not there (any more).
        InvalidError: it is not such a file, or was cut short.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < _TRAILER.size:
            raise damaged(path, "was cut short")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin, length, checksum, signature = _TRAILER.unpack_from(mapped, size - _TRAILER.size)
    listed = mapped[begin : begin + length]
    if signature != _SIGNATURE or zlib.crc32(listed) != checksum:
        raise damaged(path, "is damaged")
    contents = json.loads(listed)
    begins = {name: offset for name, (offset, _, _) in contents.items()}
    return (
        mapped,
        begins,
        {
            name: np.frombuffer(mapped, dtype, count, offset)
            for name, (offset, dtype, count) in contents.items()
        },
    )
