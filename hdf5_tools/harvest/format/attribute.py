"""The attributes of an object, in its header or, if they are many or large, in a heap.

Source: HDF5 File Format Specification, sections IV.A.2.m "The Attribute Message" and IV.A.2.v
"The Attribute Info Message".
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hdf5_tools.harvest.format import btree, dataspace, datatype, leaf, messages, shared
from hdf5_tools.harvest.format.dataspace import Shape
from hdf5_tools.harvest.format.datatype import Datatype
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.fractal_heap import FractalHeap
from hdf5_tools.harvest.format.header import Header
from hdf5_tools.harvest.format.unparsed import Unparsed
from hdf5_tools.harvest.records import MAX_VALUES, Attribute, Form

_BY_NAME = 8  # type of the B-tree
_RECORD = struct.Struct("<QB4x4x")  # ID in the heap, message flags, order, hash of the name
_FEW = 2048  # bytes of records that are worth remembering
_HAS_ORDER = 0x01
_HEAD = struct.Struct("<BBHHH")
_IS_SHARED = {1: 0, 2: 0x03, 3: 0x03}  # type, dataspace


def bodies(file: File, found: Header) -> list[bytes]:
    """The bodies of the attribute messages of an object, in no order.

    Raises:
        Unparsed: damage.
    """
    here = found.attributes
    for kind, _, body in found.others:
        if kind == messages.ATTRIBUTE:
            here.append(shared.follow(file, kind, body))
    if messages.ATTRIBUTE_INFO in found.single:
        here += _in_heap(file, found.single[messages.ATTRIBUTE_INFO][1])
    return here


def _in_heap(file: File, info: bytes) -> list[bytes]:
    if info[0] != 0:
        raise Unparsed("unknown attribute info")
    at = 4 if info[1] & _HAS_ORDER else 2
    address, names = file.forms["OO"].unpack_from(info, at)
    if address == file.nowhere:
        return []
    records = btree.records_2(file, names, _BY_NAME, _RECORD.size)
    own, others = _ids(records) if len(records) <= _FEW else _ids.__wrapped__(records)
    bodies = FractalHeap(file, address).objects(own)
    bodies += [shared.in_heap(file, messages.ATTRIBUTE, heap_id) for heap_id in others]
    return bodies


@lru_cache(4096)
def _ids(records: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """IDs in the heap of the object, and in that of shared messages."""
    ids = list(_RECORD.iter_unpack(records))
    return (
        tuple(heap_id for heap_id, flags in ids if not flags & messages.IS_SHARED),
        tuple(heap_id for heap_id, flags in ids if flags & messages.IS_SHARED),
    )


@dataclass(frozen=True, slots=True)
class Deferred:
    """Values that are of several parts, or that are known when all objects have paths.

    `data`: the bytes of the values; `None` of no or too many values.
    """

    kind: Datatype
    shape: Shape
    data: bytes | None

    def attributes(self, file: File, name: bytes) -> Iterator[Attribute]:
        """What they make of an attribute.

        Raises:
            Unparsed: damage.
        """
        items = None
        if self.data is not None:
            if not self.kind.is_readable:
                yield name, (self.kind.name, self.shape), ()
                return
            items = leaf.split(self.data, self.kind.size)
        for suffix, of, values in self.kind.parts(file, items):
            kept = tuple(values) if len(values) <= MAX_VALUES else ()
            yield name + suffix, (of, self.shape), kept


# An attribute; without form, one whose values are a `Deferred`.
Decoded = tuple[bytes, Form | None, Any]
# Makes the values of what `struct` has unpacked; None if that is what they are.
_Make = Callable[[File, tuple[Any, ...]], Any] | None


def finished(file: File, decoded: Iterable[Decoded]) -> list[Attribute]:
    """The attributes of an object, now that all objects have paths.

    Raises:
        Unparsed: damage.
    """
    attributes: list[Attribute] = []
    for name, form, values in decoded:
        if form is None:
            attributes += values.attributes(file, name)
        else:
            attributes.append((name, form, values))
    return attributes


@dataclass(frozen=True, slots=True)
class Plan:
    """How attributes are decoded that are alike up to their values.

    `start`, `end`: where those are in the message. `unpack` takes them out, `make` finishes them,
    if that is needed. `fields`: the same for `struct`, without byte order. `is_lasting`: true of
    other files too.
    """

    name: bytes
    form: Form | None
    start: int
    end: int
    fields: str
    unpack: Callable[[bytes, int], tuple[Any, ...]]
    make: _Make
    is_lasting: bool


def start_of_values(body: bytes) -> int:
    """Where in an attribute message the values are; negative if its type or shape is stored in
    another place of the file.

    Raises:
        Unparsed: an unknown version.
    """
    version, flags, name, kind, space = _HEAD.unpack_from(body)
    if version not in _IS_SHARED:
        raise Unparsed("an unknown attribute")
    sizes = (name, kind, space)
    start: int = 9 if version == 3 else 8
    start += sum((size + 7) & ~7 for size in sizes) if version == 1 else sum(sizes)
    return -start if flags & _IS_SHARED[version] else start


def plan(file: File, head: bytes, is_lasting: bool) -> Plan:
    """The plan for messages of which all but the values is `head`.

    Raises:
        Unparsed: damage, an unknown type.
    """
    version, flags, *sizes = _HEAD.unpack_from(head)
    at = 9 if version == 3 else 8
    parts = []
    for size in sizes:
        parts.append(head[at : at + size])
        at += (size + 7) & ~7 if version == 1 else size
    name, kind_body, space_body = parts
    if at != len(head) or name.find(0) != len(name) - 1:
        raise Unparsed("an attribute is cut short, or its name")
    if flags & _IS_SHARED[version] & 1:
        kind_body = shared.follow(file, messages.DATATYPE, kind_body)
    if flags & _IS_SHARED[version] & 2:
        space_body = shared.follow(file, messages.DATASPACE, space_body)
    kind = datatype.read(kind_body)
    shape, _ = dataspace.read(file, space_body)
    form, fields, make = _values(file, kind, shape)
    one = struct.Struct("<" + fields)
    return Plan(name[:-1], form, at, at + one.size, fields, one.unpack_from, make, is_lasting)


def _values(file: File, kind: Datatype, shape: Shape) -> tuple[Form | None, str, _Make]:
    """The form, what `struct` makes of the values, and how they are finished."""
    form = kind.name, shape
    count = math.prod(shape) if shape is not None else MAX_VALUES + 1
    if not kind.is_immediate:
        if count > MAX_VALUES:
            return None, "", lambda file, fields: Deferred(kind, shape, None)
        data = f"{count * kind.size}s"
        return None, data, lambda file, fields: Deferred(kind, shape, fields[0])
    if count > MAX_VALUES or not kind.is_readable:
        return form, "", None
    return form, *_immediate(file, kind, count)


def _immediate(file: File, kind: Datatype, count: int) -> tuple[str, _Make]:
    size, decode = kind.size, kind.decode
    if kind.letter is not None and kind.letter[0] == "<":
        return f"{count}{kind.letter[1]}", None
    if kind.letter is not None:
        unpack = struct.Struct(f">{count}{kind.letter[1]}").unpack
        return f"{count * size}s", lambda file, fields: unpack(fields[0])
    if count == 1 and decode is leaf.variable_text:
        return file.forms[leaf.SEQUENCE].format.lstrip("<"), leaf.one_text
    return f"{count * size}s", lambda file, fields: tuple(decode(file, leaf.split(fields[0], size)))
