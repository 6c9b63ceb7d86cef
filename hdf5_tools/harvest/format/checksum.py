"""Checksums of metadata, by the function of the HDF5 library that h5py brings along, if it has one.

Source: HDF5 File Format Specification, appendix "Metadata checksum".
"""

import ctypes
import struct
from collections.abc import Callable

from hdf5_tools.harvest.format.unparsed import Unparsed
from hdf5_tools.lookup3 import lookup3

_Hash = Callable[[bytes, int, int], int]


def _python(data: bytes, length: int, start: int) -> int:
    return lookup3(data[:length])


def _fastest() -> _Hash:
    """Exported by all versions of the library, though not in its manual; tried on samples.

    Without declared types a call takes a third of the time. libffi widens the numbers, and the
    result is signed.
    """
    try:
        import h5py.h5

        function: _Hash = ctypes.PyDLL(h5py.h5.__file__).H5_checksum_lookup3
    except (ImportError, OSError, AttributeError):
        return _python
    samples = [bytes(range(length)) for length in range(40)]
    if all(function(s, len(s), 0) & _BITS == lookup3(s) for s in samples):
        return function
    return _python


_BITS = 0xFFFFFFFF
_checksum = _fastest()
_stored = struct.Struct("<I").unpack_from


def verify(block: bytes) -> bytes:
    """The block, whose last four bytes are the checksum of all before.

    Raises:
        Unparsed: they are not.
    """
    length = len(block) - 4
    if length < 0 or _checksum(block, length, 0) & _BITS != _stored(block, length)[0]:
        raise Unparsed("a checksum is wrong")
    return block


def verify_inside(block: bytes, at: int) -> None:
    """Check a block whose checksum is at `at`, made while zeros stood there.

    Raises:
        Unparsed: it is wrong.
    """
    emptied = b"".join((block[:at], b"\0\0\0\0", block[at + 4 :]))
    if _checksum(emptied, len(emptied), 0) & _BITS != _stored(block, at)[0]:
        raise Unparsed("a checksum is wrong")
