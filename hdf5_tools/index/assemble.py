"""Columns become the arrays of a segment: sorted by name and value, with postings.

For each attribute name (`name_*`, sorted) the values lie together, in order, one array pair a
column: value and object. Texts are unique; text t is of the objects
text_object[text_post_first[t]:text_post_first[t + 1]]. `bucket_*` is a hash table of them,
`reversed` orders them by their letters from the end, and `place_*` orders every place in them
(places.py). `name_single`: no object has two values of a name.
`attribute_*` and `value_*` lead back from an object to its attributes.
"""

from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hdf5_tools.index import places
from hdf5_tools.index.columns import DOUBLE, INTEGER, SINGLE, TEXT, UNSIGNED, Columns
from hdf5_tools.index.sets import order_of

Array = npt.NDArray[Any]
NUMBERS = {
    INTEGER: ("integer", "integers"),
    UNSIGNED: ("unsigned", "unsigneds"),
    SINGLE: ("single", "singles"),
    DOUBLE: ("double", "doubles"),
}


def assemble(columns: Columns) -> dict[str, Array]:
    """The arrays of the segment that holds these columns."""
    arrays: dict[str, Array] = {"file_stamp": columns.file_stamp.reshape(-1)}
    _put_table(arrays, "file", columns.file_path)
    _put_table(arrays, "reason", columns.file_reason)
    arrays["file_failed"] = columns.file_failed
    arrays["object_file"] = columns.object_file
    arrays["object_kind"] = columns.object_kind
    arrays["object_path"] = _put_dictionary(arrays, "path", columns.object_path)
    arrays["object_form"] = _put_dictionary(arrays, "form", columns.object_form)
    names = _put_dictionary(arrays, "name", columns.attribute_name)
    count = len(arrays["name_first"]) - 1
    order = order_of(columns.attribute_object, names)
    arrays["attribute_name"] = _narrow(names[order])
    arrays["attribute_form"] = _narrow(
        _put_dictionary(arrays, "attribute_form_text", columns.attribute_form)[order]
    )
    arrays["attribute_first"] = _first(columns.attribute_object, len(columns.object_file))
    by_name = order_of(names)  # the attributes are in the order of their objects
    arrays["has_object"] = columns.attribute_object[by_name]
    arrays["has_first"] = _first(names, count)
    arrays["name_single"] = _single(columns, names, by_name, count)

    owner = np.repeat(np.arange(columns.attributes, dtype=np.int32), columns.attribute_values)
    reference = np.empty(len(owner), np.uint32)
    for code, (column, listed) in NUMBERS.items():
        chosen = np.flatnonzero(columns.value_column == code)
        values = getattr(columns, listed)
        objects, of = columns.attribute_object[owner[chosen]], names[owner[chosen]]
        by_value = values.argsort(kind="stable")
        by_value = by_value[order_of(of[by_value])]
        arrays[f"{column}_value"], arrays[f"{column}_object"] = values[by_value], objects[by_value]
        arrays[f"{column}_first"] = _first(of, count)
        reference[chosen[by_value]] = np.arange(len(chosen), dtype=np.uint32)
    chosen = np.flatnonzero(columns.value_column == TEXT)
    reference[chosen] = _put_texts(
        arrays, columns.texts, names[owner[chosen]], columns.attribute_object[owner[chosen]], count
    )
    # The values follow their attributes, each in the order that it had.
    arrays["value_first"], moved = _moved(columns.attribute_values, order)
    arrays["value_reference"] = reference[moved]
    arrays["value_column"] = columns.value_column[moved]
    return arrays


def _single(columns: Columns, names: Array, by_name: Array, count: int) -> Array:
    """Whether each name's attributes have one value at most, and no object has two of them.

    It might: `a.b` beside a compound `a` that has a field `b`.
    """
    single = np.ones(count, bool)
    single[names[columns.attribute_values > 1]] = False
    objects, ordered = columns.attribute_object[by_name], names[by_name]
    again = (objects[1:] == objects[:-1]) & (ordered[1:] == ordered[:-1])
    single[ordered[1:][again]] = False
    return single


def _put_texts(
    arrays: dict[str, Array], texts: pa.DictionaryArray, names: Array, objects: Array, count: int
) -> Array:
    """Add the texts of each name, once each, in order; which of them each value is."""
    ordered, rank = _ranked(texts)
    # Of equal texts the objects are in order, as they were.
    order = order_of(names, rank)
    of, which, at = names[order], rank[order], objects[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (of[1:] != of[:-1]) | (which[1:] != which[:-1])
    number = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
    result = np.empty(len(order), np.uint32)
    result[order] = number
    which, of = which[is_new], of[is_new]
    own = ordered.take(_indices(which))
    arrays["text_name_first"] = _first(of, count)
    # Once each, though an object may have a text several times.
    is_other = is_new.copy()
    is_other[1:] |= at[1:] != at[:-1]
    arrays["text_object"] = at[is_other]
    arrays["text_post_first"] = _first(number[is_other], len(own))
    arrays["reversed"] = order_of(of, _rank(pc.binary_reverse(ordered))[which]).astype(np.int32)
    _put_buckets(arrays, own, of)
    letters, first = _letters(own)
    arrays["text_bytes"], arrays["text_first"] = places.separated(letters, first)
    arrays |= places.arrays_of(
        arrays["text_bytes"], arrays["text_first"], arrays["text_name_first"]
    )
    return result


def bucket_of(text: bytes, name: int, buckets: int) -> int:
    """Where a text of a name is listed in `bucket_text`."""
    return crc32(text, name) % buckets


def _put_buckets(arrays: dict[str, Array], texts: pa.Array, names: Array) -> None:
    count = max(1, len(texts))
    hashes = map(crc32, texts.to_pylist(), names.tolist())
    bucket = np.fromiter(hashes, np.uint32, len(texts)) % np.uint32(count)
    arrays["bucket_text"] = order_of(bucket).astype(np.int32)
    arrays["bucket_first"] = _first(bucket, count)


def _put_dictionary(arrays: dict[str, Array], name: str, values: pa.DictionaryArray) -> Array:
    """Add the unique values, sorted; which of them each value is."""
    ordered, ranked = _ranked(values)
    _put_table(arrays, name, ordered)
    return ranked


def _ranked(values: pa.DictionaryArray) -> tuple[pa.Array, Array]:
    """The unique values, sorted; which of them each value is."""
    order = _order(values.dictionary)
    codes = values.indices
    of = np.frombuffer(codes.buffers()[1], np.int32, len(codes), 4 * codes.offset)
    return values.dictionary.take(_indices(order)), _rank(values.dictionary, order)[of]


def _order(values: pa.Array) -> Array:
    """The numbers of strings, sorted by the strings."""
    # By to_numpy(), pyarrow would import pandas, where it is installed.
    return np.frombuffer(pc.sort_indices(values).buffers()[1], np.uint64, len(values))


def _rank(values: pa.Array, order: Array | None = None) -> Array:
    """Which place each string has among all, which are different."""
    rank = np.empty(len(values), np.int32)
    rank[_order(values) if order is None else order] = np.arange(len(values))
    return rank


def _put_table(arrays: dict[str, Array], name: str, values: pa.Array) -> None:
    """Add strings: their bytes, and where each begins."""
    arrays[f"{name}_bytes"], first = _letters(values)
    arrays[f"{name}_first"] = _narrow(first)


def _letters(values: pa.Array) -> tuple[Array, Array]:
    """The bytes of strings, one behind the other, and where each begins, and the end."""
    whole = pa.concat_arrays([values])
    _, offsets, content = whole.buffers()
    first = np.frombuffer(offsets, np.int64, len(whole) + 1, whole.offset * 8)
    begin, end = (int(first[0]), int(first[-1])) if len(whole) else (0, 0)
    letters = np.frombuffer(content, np.uint8) if content else np.empty(0, np.uint8)
    return letters[begin:end], first - begin


def _first(sorted_or_not: Array, count: int) -> Array:
    """Where each number from 0 to `count` begins, were the array sorted."""
    first = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(sorted_or_not, minlength=count), out=first[1:])
    return _narrow(first)


def _narrow(numbers: Array) -> Array:
    """The same in as few bytes as the largest takes."""
    largest = int(numbers.max()) if len(numbers) else 0
    return numbers.astype(np.min_scalar_type(largest))


def _indices(numbers: Array) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(numbers, np.int32))]
    return pa.Array.from_buffers(pa.int32(), len(numbers), buffers)


def _moved(lengths: Array, order: Array) -> tuple[Array, Array]:
    """Where runs of these lengths begin after reordering, and where each element came from."""
    starts = np.cumsum(lengths) - lengths
    new_lengths = lengths[order]
    first = np.concatenate([[0], np.cumsum(new_lengths)]).astype(np.int64)
    within = np.arange(first[-1]) - np.repeat(first[:-1], new_lengths)
    return _narrow(first), np.repeat(starts[order], new_lengths) + within
