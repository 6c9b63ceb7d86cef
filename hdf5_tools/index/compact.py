"""A segment back to columns, without what is dead: to be put together with others."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hdf5_tools.index.assemble import NUMBERS
from hdf5_tools.index.columns import TEXT, Columns, coded, strings
from hdf5_tools.index.places import joined
from hdf5_tools.index.segment import Segment

Array = npt.NDArray[Any]


def columns_of(segment: Segment) -> Columns:
    """What a segment was assembled from, as far as its files count."""
    arrays = segment.arrays
    files = np.flatnonzero(segment.files_alive)
    objects = np.arange(segment.objects)
    if segment.alive is not None:
        objects = np.flatnonzero(segment.alive)
    file_number = _renumbered(files, len(segment.files))
    object_number = _renumbered(objects, segment.objects)
    attribute_object = _owners(arrays["attribute_first"])
    attributes = np.flatnonzero(object_number[attribute_object] >= 0)
    value_attribute = _owners(arrays["value_first"])
    kept = np.zeros(len(attribute_object), bool)
    kept[attributes] = True
    values = np.flatnonzero(kept[value_attribute])
    column, reference = arrays["value_column"][values], arrays["value_reference"][values]
    numbers = {
        listed: arrays[f"{name}_value"][reference[column == code]]
        for code, (name, listed) in NUMBERS.items()
    }
    texts = strings(*reversed(joined(arrays["text_bytes"], arrays["text_first"])))
    return Columns(
        file_path=_strings(arrays, "file").take(pa.array(files)),
        file_reason=_strings(arrays, "reason").take(pa.array(files)),
        file_failed=arrays["file_failed"][files],
        file_stamp=arrays["file_stamp"].reshape(-1, 4)[files],
        object_file=file_number[arrays["object_file"][objects]],
        object_path=_coded(arrays["object_path"][objects], _strings(arrays, "path")),
        object_kind=arrays["object_kind"][objects],
        object_form=_coded(arrays["object_form"][objects], _strings(arrays, "form")),
        attribute_object=object_number[attribute_object[attributes]],
        attribute_name=_coded(arrays["attribute_name"][attributes], _strings(arrays, "name")),
        attribute_form=_coded(
            arrays["attribute_form"][attributes], _strings(arrays, "attribute_form_text")
        ),
        attribute_values=np.diff(arrays["value_first"])[attributes].astype(np.int32),
        value_column=column,
        texts=_coded(reference[column == TEXT], texts),
        **numbers,
    )


def _renumbered(kept: Array, count: int) -> Array:
    """Old number → new number, -1 for what is left out."""
    numbers = np.full(count, -1, np.int32)
    numbers[kept] = np.arange(len(kept), dtype=np.int32)
    return numbers


def _owners(first: Array) -> Array:
    return np.repeat(np.arange(len(first) - 1), np.diff(first))


def _coded(numbers: Array, listed: pa.Array) -> pa.DictionaryArray:
    """Only those that are still in use."""
    used = np.zeros(len(listed), bool)
    used[numbers] = True
    kept = np.flatnonzero(used)
    return coded(_renumbered(kept, len(listed))[numbers], listed.take(pa.array(kept)))


def _strings(arrays: dict[str, Array], name: str) -> pa.Array:
    return strings(arrays[f"{name}_first"], arrays[f"{name}_bytes"])
