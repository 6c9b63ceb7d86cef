"""Harvested records as columns: what a segment is made of, in the order of files and objects."""

from array import array
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hdf5_tools.harvest.records import Form

Array = npt.NDArray[Any]

# Where a value goes; numbers are compared in the precision that they are stored in.
TEXT, INTEGER, UNSIGNED, SINGLE, DOUBLE = range(5)


@dataclass
class Columns:
    """Files, their objects, their attributes, the attributes' values; each in order.

    `object_file` and so on refer by position. `attribute_values`: how many values each has.
    `value_column`: where the values are, one after the other, in the lists of each column.
    What many have in common, as names and texts, are dictionary arrays: each once, and codes.
    """

    file_path: pa.Array
    file_reason: pa.Array  # empty where there is none
    file_failed: Array
    file_stamp: Array  # (files, 4) int64: device, inode, size, mtime in ns
    object_file: Array
    object_path: pa.DictionaryArray
    object_kind: Array
    object_form: pa.DictionaryArray
    attribute_object: Array
    attribute_name: pa.DictionaryArray
    attribute_form: pa.DictionaryArray
    attribute_values: Array
    value_column: Array
    texts: pa.DictionaryArray
    integers: Array
    unsigneds: Array
    singles: Array
    doubles: Array

    @property
    def attributes(self) -> int:
        """How many there are."""
        return len(self.attribute_object)

    @classmethod
    def concatenated(cls, parts: list["Columns"]) -> "Columns":
        """One behind the other."""
        joined: dict[str, Any] = {}
        for column in fields(cls):
            several = [getattr(part, column.name) for part in parts]
            if isinstance(several[0], pa.Array):
                joined[column.name] = (
                    pa.chunked_array(several).unify_dictionaries().combine_chunks()
                )
            else:
                joined[column.name] = np.concatenate(several)
        for name, of in (("object_file", "file_path"), ("attribute_object", "object_file")):
            starts = np.cumsum([0] + [len(getattr(part, of)) for part in parts])
            joined[name] = np.concatenate(
                [
                    getattr(part, name) + np.int32(start)
                    for part, start in zip(parts, starts[:-1], strict=True)
                ]
            )
        return cls(**joined)


def form_text(form: Form) -> bytes:
    """A form as it is stored: `float32 (3,4)`, `int8 ()`, `group -`."""
    kind, shape = form
    shown = "-" if shape is None else f"({','.join(map(str, shape))})"
    return f"{kind} {shown}".encode("utf-8", "surrogateescape")


def parse_form(text: bytes) -> Form:
    """The form of a text of `form_text`."""
    kind, _, shape = text.decode("utf-8", "surrogateescape").rpartition(" ")
    return kind, None if shape == "-" else tuple(int(n) for n in shape[1:-1].split(",") if n)


def binary(values: list[bytes]) -> pa.Array:
    """Strings as an array; several times quicker than pyarrow's own way, which imports pandas."""
    first = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=first[1:])
    return strings(first, np.frombuffer(b"".join(values), np.uint8))


def coded(codes: "Array | array[int]", listed: pa.Array) -> pa.DictionaryArray:
    """Which of those that are listed each is."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(codes, np.int32))]
    indices = pa.Array.from_buffers(pa.int32(), len(codes), buffers)
    return pa.DictionaryArray.from_arrays(indices, listed)


def strings(first: Array, letters: Array) -> pa.Array:
    """Strings as an array. `letters`: those of all; `first`: where each begins, and the end."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(first, np.int64)), pa.py_buffer(letters)]
    return pa.Array.from_buffers(pa.large_binary(), len(first) - 1, buffers)
