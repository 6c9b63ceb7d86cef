"""Columns become the arrays of a segment: sorted by name and value, with postings.

For each attribute name (`name_*`, sorted) the values lie together, in order, one array pair a
column: value and object. Texts are unique; text t is of the objects
text_object[text_first[t]:text_first[t + 1]]. `reversed` orders them by their letters from the
end, and `gram_*` lists the texts, of any name, that contain three given bytes (ASCII letters in
lower case). `attribute_*` and `value_*` lead back from an object to its attributes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hdf5_tools.index.columns import DOUBLE, INTEGER, SINGLE, TEXT, UNSIGNED, Columns

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
    _put_table(arrays, "reason", pc.fill_null(columns.file_reason, b""))
    arrays["file_failed"] = columns.file_reason.is_valid().to_numpy(zero_copy_only=False)
    arrays["object_file"] = columns.object_file
    arrays["object_kind"] = columns.object_kind
    arrays["object_path"] = _put_dictionary(arrays, "path", columns.object_path)
    arrays["object_form"] = _put_dictionary(arrays, "form", columns.object_form)
    names = _put_dictionary(arrays, "name", columns.attribute_name)
    order = np.lexsort((names, columns.attribute_object))
    arrays["attribute_name"] = names[order]
    arrays["attribute_form"] = _put_dictionary(
        arrays, "attribute_form_text", columns.attribute_form
    )[order]
    arrays["attribute_first"] = _first(columns.attribute_object, len(columns.object_file))
    by_name = np.lexsort((columns.attribute_object, names))
    arrays["has_object"] = columns.attribute_object[by_name]
    count = len(arrays["name_first"]) - 1
    arrays["has_first"] = _first(names, count)

    owner = np.repeat(np.arange(columns.attributes, dtype=np.int32), columns.attribute_values)
    reference = np.empty(len(owner), np.uint32)
    for code, (column, listed) in NUMBERS.items():
        chosen = np.flatnonzero(columns.value_column == code)
        values = getattr(columns, listed)
        objects, of = columns.attribute_object[owner[chosen]], names[owner[chosen]]
        by_value = np.lexsort((objects, values, of))
        arrays[f"{column}_value"], arrays[f"{column}_object"] = values[by_value], objects[by_value]
        arrays[f"{column}_first"] = _first(of, count)
        reference[chosen[by_value]] = np.arange(len(chosen), dtype=np.uint32)
    chosen = np.flatnonzero(columns.value_column == TEXT)
    texts = _put_texts(
        arrays, columns.texts, names[owner[chosen]], columns.attribute_object[owner[chosen]], count
    )
    reference[chosen] = texts
    # The values follow their attributes, each in the order that it had.
    arrays["value_first"], moved = _moved(columns.attribute_values, order)
    arrays["value_reference"] = reference[moved]
    arrays["value_column"] = columns.value_column[moved]
    return arrays


def _put_texts(
    arrays: dict[str, Array], texts: pa.Array, names: Array, objects: Array, count: int
) -> Array:
    """Add what is known of texts; which of the unique ones each is."""
    encoded = texts.dictionary_encode()
    values, codes = encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False)
    by_text = pc.sort_indices(values).to_numpy()
    rank = np.empty(len(values), np.int64)
    rank[by_text] = np.arange(len(values))
    keys = (names.astype(np.int64) << 32) | rank[codes]
    unique, number = np.unique(keys, return_inverse=True)
    sorted_values = values.take(pa.array(by_text))
    own = sorted_values.take(pa.array(unique & 0xFFFFFFFF))
    _put_table(arrays, "text", own)
    of = (unique >> 32).astype(np.int32)
    arrays["text_name_first"] = _first(of, count)
    # Once each, though an object may have a text several times.
    postings = np.unique((number.astype(np.int64) << 32) | objects)
    arrays["text_object"] = (postings & 0xFFFFFFFF).astype(np.int32)
    arrays["text_post_first"] = _first(postings >> 32, len(unique))
    backwards = pc.sort_indices(pc.binary_reverse(sorted_values)).to_numpy()
    last = np.empty(len(backwards), np.int64)
    last[backwards] = np.arange(len(backwards))
    arrays["reversed"] = np.lexsort((last[unique & 0xFFFFFFFF], of)).astype(np.int32)
    _put_grams(arrays)
    return number.astype(np.uint32)


def _put_grams(arrays: dict[str, Array]) -> None:
    letters, first = arrays["text_bytes"], arrays["text_first"]
    folded = np.where((letters >= 65) & (letters <= 90), letters + 32, letters).astype(np.uint32)
    if len(folded) < 3:
        grams, of = np.empty(0, np.int64), np.empty(0, np.int64)
    else:
        text = np.repeat(np.arange(len(first) - 1), np.diff(first))
        grams = ((folded[:-2] << 16) | (folded[1:-1] << 8) | folded[2:]).astype(np.int64)
        inside = text[:-2] == text[2:]
        pairs = np.unique((grams[inside] << 32) | text[:-2][inside])
        grams, of = pairs >> 32, pairs & 0xFFFFFFFF
    unique, starts = np.unique(grams, return_index=True)
    arrays["gram"] = unique.astype(np.uint32)
    arrays["gram_first"] = np.append(starts, len(grams)).astype(np.int64)
    arrays["gram_text"] = of.astype(np.int32)


def _put_dictionary(arrays: dict[str, Array], name: str, values: pa.Array) -> Array:
    """Add the unique values, sorted; which of them each value is."""
    encoded = values.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    _put_table(arrays, name, encoded.dictionary.take(order))
    rank = np.empty(len(order), np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    ranked: Array = rank[encoded.indices.to_numpy(zero_copy_only=False)]
    return ranked


def _put_table(arrays: dict[str, Array], name: str, values: pa.Array) -> None:
    """Add strings: their bytes, and where each begins."""
    whole = pa.concat_arrays([values.cast(pa.large_binary())])
    _, offsets, content = whole.buffers()
    first = np.frombuffer(offsets, np.int64, len(whole) + 1, whole.offset * 8)
    begin, end = (int(first[0]), int(first[-1])) if len(whole) else (0, 0)
    letters = np.frombuffer(content, np.uint8) if content else np.empty(0, np.uint8)
    arrays[f"{name}_bytes"] = letters[begin:end]
    arrays[f"{name}_first"] = first - begin


def _first(sorted_or_not: Array, count: int) -> Array:
    """Where each number from 0 to `count` begins, were the array sorted."""
    return np.concatenate([[0], np.cumsum(np.bincount(sorted_or_not, minlength=count))]).astype(
        np.int64
    )


def _moved(lengths: Array, order: Array) -> tuple[Array, Array]:
    """Where runs of these lengths begin after reordering, and where each element came from."""
    starts = np.cumsum(lengths) - lengths
    new_lengths = lengths[order]
    first = np.concatenate([[0], np.cumsum(new_lengths)]).astype(np.int64)
    within = np.arange(first[-1]) - np.repeat(first[:-1], new_lengths)
    return first, np.repeat(starts[order], new_lengths) + within
