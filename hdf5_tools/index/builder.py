"""Takes records in, as codes and numbers in arrays: hardly a step of Python for each attribute."""

from array import array
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import numpy as np
import numpy.typing as npt

from hdf5_tools.harvest.records import FileRecord, Value
from hdf5_tools.index.columns import (
    DOUBLE,
    INTEGER,
    SINGLE,
    TEXT,
    UNSIGNED,
    Columns,
    binary,
    coded,
    form_text,
)  # fmt: skip

_SINGLES = ("float16", "float32")
_INTEGERS = (-(1 << 63), (1 << 63) - 1)


@dataclass(frozen=True)
class FileStamp:
    """What tells whether a file is still the same."""

    path: bytes
    device: int
    inode: int
    size: int
    mtime_ns: int


class _Codes(dict[Any, int]):
    """What was met, numbered in that order."""

    def __missing__(self, met: Any) -> int:
        code = self[met] = len(self)
        return code


class _Kinds(dict[type, int]):
    """Where a value goes by its type; bool is an integer, too."""

    def __missing__(self, kind: type) -> int:
        found = next(code for of, code in self.items() if issubclass(kind, of))
        self[kind] = found
        return found


class Builder:
    """The records of a segment. `attributes` and `text_bytes`: how much they are."""

    def __init__(self) -> None:
        self.files: list[FileStamp] = []
        self.attributes = 0
        self.text_bytes = 0
        self._reasons: list[str | None] = []
        self._paths, self._forms, self._names, self._texts = (_Codes() for _ in range(4))
        self._kinds = _Kinds({bytes: TEXT, int: INTEGER, float: DOUBLE})
        self._object_file, self._object_path = array("i"), array("i")
        self._object_kind, self._object_form = bytearray(), array("i")
        self._object_attributes = array("i")
        self._attribute_name, self._attribute_form = array("i"), array("i")
        self._attribute_values = array("i")
        self._value_column = bytearray()
        self._text_codes, self._integers, self._unsigneds = array("i"), array("q"), array("Q")
        self._floats = array("d")

    def add(self, stamp: FileStamp, record: FileRecord) -> None:
        """A file with its objects and attributes, or the reason why it has none."""
        number = len(self.files)
        self.files.append(stamp)
        self._reasons.append(record.reason)
        objects = record.objects
        self._object_file.extend([number] * len(objects))
        self._object_path.extend([self._paths[found.path] for found in objects])
        self._object_kind.extend([found.kind for found in objects])
        self._object_form.extend([self._forms[found.form] for found in objects])
        self._object_attributes.extend([len(found.attributes) for found in objects])
        attributes = list(chain.from_iterable([found.attributes for found in objects]))
        if not attributes:
            return
        self.attributes += len(attributes)
        names, forms, values = zip(*attributes, strict=True)
        self._attribute_name.extend(map(self._names.__getitem__, names))
        self._attribute_form.extend(map(self._forms.__getitem__, forms))
        self._attribute_values.extend(map(len, values))
        self._add(list(chain.from_iterable(values)))

    def columns(self) -> Columns:
        """What was taken in."""
        stamps = [(f.device, f.inode, f.size, f.mtime_ns) for f in self.files]
        forms = binary([form_text(form) for form in self._forms])
        objects = np.arange(len(self._object_file), dtype=np.int32)
        value_column, singles, doubles = self._split()
        return Columns(
            file_path=binary([f.path for f in self.files]),
            file_reason=binary([(r or "").encode("utf-8", "replace") for r in self._reasons]),
            file_failed=np.array([reason is not None for reason in self._reasons], bool),
            # Device and inode are unsigned: kept by their bits.
            file_stamp=np.array(stamps, np.uint64).view(np.int64).reshape(-1, 4),
            object_file=np.array(self._object_file, np.int32),
            object_path=coded(self._object_path, binary(list(self._paths))),
            object_kind=np.frombuffer(bytes(self._object_kind), np.uint8),
            object_form=coded(self._object_form, forms),
            attribute_object=np.repeat(objects, np.array(self._object_attributes)),
            attribute_name=coded(self._attribute_name, binary(list(self._names))),
            attribute_form=coded(self._attribute_form, forms),
            attribute_values=np.array(self._attribute_values, np.int32),
            value_column=value_column,
            texts=coded(self._text_codes, binary(list(self._texts))),
            integers=np.array(self._integers, np.int64),
            unsigneds=np.array(self._unsigneds, np.uint64),
            singles=singles,
            doubles=doubles,
        )

    def _add(self, values: list[Value]) -> None:
        columns = bytearray(map(self._kinds.__getitem__, map(type, values)))
        texts = list(compress(values, columns.translate(_IS[TEXT])))
        self._text_codes.extend(map(self._texts.__getitem__, texts))
        self.text_bytes += sum(map(len, texts))  # type: ignore[arg-type]
        self._floats.extend(compress(values, columns.translate(_IS[DOUBLE])))  # type: ignore[arg-type]
        whole: list[Any] = list(compress(values, columns.translate(_IS[INTEGER])))
        if whole and not (_INTEGERS[0] <= min(whole) and max(whole) <= _INTEGERS[1]):
            for at, value in enumerate(values):
                if columns[at] == INTEGER and not _INTEGERS[0] <= value <= _INTEGERS[1]:  # type: ignore[operator]
                    columns[at] = UNSIGNED
            self._unsigneds.extend(compress(values, columns.translate(_IS[UNSIGNED])))  # type: ignore[arg-type]
            whole = list(compress(values, columns.translate(_IS[INTEGER])))
        self._integers.extend(whole)
        self._value_column += columns

    def _split(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Where each value goes, and the floats: in the precision that they are stored in."""
        columns = np.array(self._value_column, np.uint8)
        floats = np.array(self._floats, np.float64)
        kinds = [form[0] for form in self._forms]
        if not any(kind in kinds for kind in _SINGLES):
            return columns, np.empty(0, np.float32), floats
        of = np.repeat(np.array(self._attribute_form), np.array(self._attribute_values))
        at = np.flatnonzero(columns == DOUBLE)
        of_floats = of[at]
        is_half = np.array([kind == "float16" for kind in kinds], bool)[of_floats]
        is_single = np.array([kind in _SINGLES for kind in kinds], bool)[of_floats]
        # As 0.1 is meant by who stored it, though half the digits are lost.
        floats[is_half] = [float(str(half)) for half in floats[is_half].astype(np.float16)]
        columns[at[is_single]] = SINGLE
        return columns, floats[is_single].astype(np.float32), floats[~is_single]


# For bytes.translate: 1 where it is this code.
_IS = [bytes(code == other for other in range(256)) for code in range(5)]
