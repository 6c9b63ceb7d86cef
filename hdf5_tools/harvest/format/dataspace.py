"""Shapes.

Source: HDF5 File Format Specification, section IV.A.2.b "The Dataspace Message".
"""

from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.unparsed import Unparsed

Shape = tuple[int, ...] | None
_HAS_MAXIMA = 1
_MAX_RANK = 32
_SIMPLE, _NULL = 1, 2


def read(file: File, body: bytes) -> tuple[Shape, bool]:
    """The shape, `None` of nothing at all; whether it may grow without limit.

    Raises:
        Unparsed: damage.
    """
    version, rank, flags, kind = body[:4]
    if version not in (1, 2) or rank > _MAX_RANK:
        raise Unparsed("an unknown dataspace")
    if version == 2 and (kind > _NULL or (rank and kind != _SIMPLE)):
        raise Unparsed("a dataspace is damaged")
    if version == 2 and kind == _NULL:
        return None, False
    numbers = file.forms[f"{rank}L"]
    at = 8 if version == 1 else 4
    shape = numbers.unpack_from(body, at)
    if not flags & _HAS_MAXIMA:
        return shape, False
    maxima = numbers.unpack_from(body, at + numbers.size)
    if any(extent > most for extent, most in zip(shape, maxima, strict=True)):
        raise Unparsed("a dataspace is larger than it may become")
    return shape, (1 << 8 * file.length) - 1 in maxima
