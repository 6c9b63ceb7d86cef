"""Harvest through h5py: the measure of what is right, and the way out for unusual files.

HDF5 may crash or never end on a damaged file, so it is called in `sandbox` only.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5a, h5o, h5r, h5t

from hdf5_tools.harvest import names
from hdf5_tools.harvest.records import (
    GROUP_FORM,
    MAX_VALUES,
    Attribute,
    FileRecord,
    Kind,
    ObjectRecord,
    Refused,
    Value,
)

Array = npt.NDArray[Any]
# A part of a value: what is added to the attribute's name, its type, its values.
_Part = tuple[bytes, str, list[Value]]


def harvest(path: Path | bytes | str) -> FileRecord:
    """Every object and attribute of a file.

    Raises:
        Refused: HDF5 cannot read it.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = [b"."]
            h5o.visit(file.id, found.append)
            return FileRecord([_object(file, name) for name in found])
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
        raise Refused(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Without HDF5's addresses, times and file names."""
    if isinstance(error, OSError) and error.errno:
        return f"HDF5 cannot read it: {os.strerror(error.errno)}"
    said = " ".join(str(error).strip("'\"").split())
    return f"HDF5 cannot read it: {said or type(error).__name__}"


def _object(file: h5py.File, name: bytes) -> ObjectRecord:
    opened = h5o.open(file.id, name)
    path = b"/" if name == b"." else b"/" + name
    if isinstance(opened, h5py.h5d.DatasetID):
        kind, form = Kind.DATASET, (type_name(opened.get_type()), _shape(opened.get_space()))
    elif isinstance(opened, h5t.TypeID):
        kind, form = Kind.DATATYPE, (type_name(opened), None)
    else:
        kind, form = Kind.GROUP, GROUP_FORM
    record = ObjectRecord(path, kind, form)
    listed: list[bytes] = []
    h5a.iterate(opened, listed.append)
    for attribute in sorted(listed):
        record.attributes += _attribute(file, h5a.open(opened, attribute), attribute)
    return record


def _attribute(file: h5py.File, opened: Any, name: bytes) -> Iterator[Attribute]:
    kind, shape = opened.get_type(), _shape(opened.get_space())
    text = type_name(kind)
    if shape is None:
        parts: list[_Part] = list(_flatten(file, kind, None))
    elif int(np.prod(shape, dtype=np.int64)) > MAX_VALUES:
        parts = list(_flatten(file, kind, None))
    else:
        try:
            values = np.empty(shape, opened.dtype)
            opened.read(values, h5t.py_create(opened.dtype))
        except (TypeError, ValueError):
            yield name, (text, shape), ()  # a type without an equal in numpy
            return
        parts = list(_flatten(file, kind, values.reshape((-1, *values.shape[len(shape) :]))))
    for suffix, of, leaves in parts:
        yield name + suffix, (of, shape), tuple(leaves) if len(leaves) <= MAX_VALUES else ()


def _shape(space: Any) -> tuple[int, ...] | None:
    null = space.get_simple_extent_type() == h5py.h5s.NULL
    return None if null else tuple(space.shape)


def type_name(kind: Any) -> str:  # noqa: PLR0911
    """What a type is called."""
    match kind:
        case h5t.TypeBitfieldID():
            return names.bitfield(kind.get_size())
        case h5t.TypeEnumID():
            return names.BOOL if kind.dtype.kind == "b" else names.ENUM
        case h5t.TypeIntegerID():
            return names.integer(kind.get_size(), kind.get_sign() != h5t.SGN_NONE)
        case h5t.TypeFloatID():
            return names.floating(kind.get_size())
        case h5t.TypeStringID():
            return names.STRING
        case h5t.TypeCompoundID():
            fields = range(kind.get_nmembers())
            return names.compound(
                (kind.get_member_name(k), type_name(kind.get_member_type(k))) for k in fields
            )
        case h5t.TypeArrayID():
            return names.array(type_name(kind.get_super()), kind.get_array_dims())
        case h5t.TypeVlenID():
            return names.sequence(type_name(kind.get_super()))
        case h5t.TypeOpaqueID():
            return names.OPAQUE
        case h5t.TypeReferenceID():
            return names.REFERENCE if kind.equal(h5t.STD_REF_OBJ) else names.REGION
        case h5t.TypeTimeID():
            return names.TIME
        case _:
            return names.OTHER


def _flatten(file: h5py.File, kind: Any, values: Array | None) -> Iterator[_Part]:
    """The parts of values of one type: itself, then the fields of compounds."""
    text = type_name(kind)
    if isinstance(kind, h5t.TypeCompoundID):
        yield b"", text, []
        for k in range(kind.get_nmembers()):
            field, member = kind.get_member_name(k), kind.get_member_type(k)
            of = None if values is None else _field(values, k)
            for suffix, inner, found in _flatten(file, member, of):
                yield b"." + field + suffix, inner, found
        return
    if isinstance(kind, h5t.TypeArrayID | h5t.TypeVlenID) and not _is_text(kind):
        base = kind.get_super()
        for suffix, inner, found in _flatten(file, base, _elements(kind, base, values)):
            yield suffix, inner if suffix else text, found
        return
    yield b"", text, [] if values is None else _leaves(file, kind, values)


def _is_text(kind: Any) -> bool:
    return isinstance(kind, h5t.TypeStringID)


def _field(values: Array, number: int) -> Array:
    if values.dtype.kind == "c":
        return values.imag if number else values.real
    names_in_numpy = values.dtype.names or ()  # HDF5's, unless two are alike
    return values[names_in_numpy[number]]


def _elements(kind: Any, base: Any, values: Array | None) -> Array | None:
    if values is None:
        return None
    if isinstance(kind, h5t.TypeArrayID):
        rank = len(kind.get_array_dims())
        inner = values.shape[1 + rank :] if values.ndim > 1 + rank else ()
        return values.reshape((-1, *inner))
    sequences = [each for each in values.reshape(-1) if each is not None and len(each)]
    return np.concatenate(sequences) if sequences else np.empty(0, base.dtype)


def _leaves(file: h5py.File, kind: Any, values: Array) -> list[Value]:  # noqa: PLR0911
    match kind:
        case h5t.TypeEnumID() if values.dtype.kind != "b":
            members = {
                kind.get_member_value(k): kind.get_member_name(k)
                for k in reversed(range(kind.get_nmembers()))
            }
            return [members.get(value, value) for value in values.reshape(-1).tolist()]
        case h5t.TypeIntegerID() | h5t.TypeBitfieldID() | h5t.TypeEnumID():
            return [int(value) for value in values.reshape(-1).tolist()]
        case h5t.TypeFloatID():
            return [float(value) for value in values.reshape(-1)]
        case h5t.TypeStringID():
            return [_bytes(value) for value in values.reshape(-1).tolist()]
        case h5t.TypeOpaqueID():
            size = kind.get_size()
            whole = values.tobytes()
            return [whole[at : at + size] for at in range(0, len(whole), size)]
        case h5t.TypeReferenceID() if kind.equal(h5t.STD_REF_OBJ):
            return [_referred(file, value) for value in values.reshape(-1)]
        case _:
            return []


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) else b""


def _referred(file: h5py.File, reference: Any) -> bytes:
    try:
        return h5r.get_name(reference, file.id) or b"" if reference else b""
    except (ValueError, RuntimeError):
        return b""
