"""Harvest through h5py. HDF5 may crash or never end on a damaged file: call `sandbox` instead."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5a, h5o, h5r, h5t

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


@dataclass(frozen=True)
class _File:
    id: Any
    paths: dict[int, bytes]  # of objects by their addresses, in the order in which they are met


def harvest(path: Path | bytes | str) -> FileRecord:
    """Every object and attribute of a file.

    Raises:
        Refused: HDF5 cannot read it.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            opened = _File(file.id, _paths(file.id))
            return FileRecord([_object(opened, path) for path in opened.paths.values()])
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        of_system = isinstance(error, OSError) and bool(error.errno)
        raise Refused(_reason(error), may_pass=of_system) from error


def _reason(error: Exception) -> str:
    """Without HDF5's addresses, times and file names."""
    if isinstance(error, OSError) and error.errno:
        return f"HDF5 cannot read it: {os.strerror(error.errno)}"
    said = " ".join(str(error).strip("'\"").split())
    return f"HDF5 cannot read it: {said or type(error).__name__}"


def _paths(root: Any) -> dict[int, bytes]:
    paths = {h5o.get_info(root).addr: b"/"}

    def add(name: bytes, info: Any) -> None:
        paths[info.addr] = b"/" + name

    h5o.visit(root, add, info=True)
    return paths


def _object(file: _File, path: bytes) -> ObjectRecord:
    opened = h5o.open(file.id, path)
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


def _attribute(file: _File, opened: Any, name: bytes) -> Iterator[Attribute]:
    kind, shape = opened.get_type(), _shape(opened.get_space())
    text = type_name(kind)
    if shape is None or int(np.prod(shape, dtype=np.int64)) > MAX_VALUES:
        parts: list[_Part] = list(_flatten(file, kind, None))
    else:
        try:
            values = np.empty(shape, opened.dtype)
            opened.read(values, _in_memory(kind, opened.dtype))
        except (TypeError, ValueError):
            yield name, (text, shape), ()  # a type without an equal in numpy
            return
        parts = list(_flatten(file, kind, values.reshape((-1, *values.shape[len(shape) :]))))
    for suffix, of, leaves in parts:
        yield name + suffix, (of, shape), tuple(leaves) if len(leaves) <= MAX_VALUES else ()


def _in_memory(kind: Any, dtype: Any) -> Any:
    """The type to read as; HDF5 converts bits and bytes to nothing else than what they are."""
    return kind if isinstance(kind, h5t.TypeBitfieldID | h5t.TypeOpaqueID) else h5t.py_create(dtype)


def _shape(space: Any) -> tuple[int, ...] | None:
    null = space.get_simple_extent_type() == h5py.h5s.NULL
    return None if null else tuple(space.shape)


def type_name(kind: Any) -> str:  # noqa: PLR0911
    """What a type is called: without byte order or padding, which no user asks for."""
    size = 8 * kind.get_size()
    match kind:
        case h5t.TypeBitfieldID():
            return f"bitfield{size}"
        case h5t.TypeEnumID():
            return "bool" if kind.dtype.kind == "b" else "enum"
        case h5t.TypeIntegerID():
            return f"uint{size}" if kind.get_sign() == h5t.SGN_NONE else f"int{size}"
        case h5t.TypeFloatID():
            return f"float{size}"
        case h5t.TypeStringID():
            return "string"
        case h5t.TypeCompoundID():
            fields = (
                f"{kind.get_member_name(k).decode(errors='replace')}: "
                f"{type_name(kind.get_member_type(k))}"
                for k in range(kind.get_nmembers())
            )
            return f"compound{{{', '.join(fields)}}}"
        case h5t.TypeArrayID():
            return f"{type_name(kind.get_super())}[{','.join(map(str, kind.get_array_dims()))}]"
        case h5t.TypeVlenID():
            return f"vlen<{type_name(kind.get_super())}>"
        case h5t.TypeOpaqueID():
            return "opaque"
        case h5t.TypeReferenceID():
            return "reference" if kind.equal(h5t.STD_REF_OBJ) else "region"
        case h5t.TypeTimeID():
            return "time"
        case _:
            return "other"


def _flatten(file: _File, kind: Any, values: Array | None) -> Iterator[_Part]:
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
    if isinstance(kind, h5t.TypeArrayID | h5t.TypeVlenID):
        base = kind.get_super()
        for suffix, inner, found in _flatten(file, base, _elements(kind, base, values)):
            yield suffix, inner if suffix else text, found
        return
    yield b"", text, [] if values is None else _leaves(file, kind, values)


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
    # Of numbers in the other byte order h5py leaves the bytes, and says that they are in this one.
    sequences = [
        each if each.dtype.hasobject else each.view(base.dtype)
        for each in values.reshape(-1)
        if each is not None and len(each)
    ]
    return np.concatenate(sequences) if sequences else np.empty(0, base.dtype)


def _leaves(file: _File, kind: Any, values: Array) -> list[Value]:  # noqa: PLR0911
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


def _referred(file: _File, reference: Any) -> bytes:
    """The path under which the object is listed; HDF5 would look for any of its names."""
    if not reference:
        return b""
    try:
        return file.paths.get(h5o.get_info(h5r.dereference(reference, file.id)).addr, b"")
    except (ValueError, RuntimeError, KeyError):
        return b""
