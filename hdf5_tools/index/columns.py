"""Harvested records as columns: what a segment is made of, in the order of files and objects."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hdf5_tools.harvest.records import FileRecord, Form, Value

Array = npt.NDArray[Any]

# Where a value goes; numbers are compared in the precision that they are stored in.
TEXT, INTEGER, UNSIGNED, SINGLE, DOUBLE = range(5)
_COLUMN_OF = {"float16": SINGLE, "float32": SINGLE}
_INTEGERS = (-(1 << 63), (1 << 63) - 1)


@dataclass(frozen=True)
class FileStamp:
    """What tells whether a file is still the same."""

    path: bytes
    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass
class Columns:
    """Files, their objects, their attributes, the attributes' values; each in order.

    `object_file` and so on refer by position. `attribute_values`: how many values each has.
    `value_column`: where the values are, one after the other, in the lists of each column.
    """

    file_path: pa.Array
    file_reason: pa.Array
    file_stamp: Array  # (files, 4) int64: device, inode, size, mtime in ns
    object_file: Array
    object_path: pa.Array
    object_kind: Array
    object_form: pa.Array
    attribute_object: Array
    attribute_name: pa.Array
    attribute_form: pa.Array
    attribute_values: Array
    value_column: Array
    texts: pa.Array
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
            joined[column.name] = (
                pa.concat_arrays(several)
                if isinstance(several[0], pa.Array)
                else np.concatenate(several)
            )
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


@dataclass
class Builder:
    """Takes records in; lists, for they grow faster than arrays."""

    files: list[FileStamp] = field(default_factory=list)
    reasons: list[bytes | None] = field(default_factory=list)
    object_file: list[int] = field(default_factory=list)
    object_path: list[bytes] = field(default_factory=list)
    object_kind: list[int] = field(default_factory=list)
    object_form: list[bytes] = field(default_factory=list)
    attribute_object: list[int] = field(default_factory=list)
    attribute_name: list[bytes] = field(default_factory=list)
    attribute_form: list[bytes] = field(default_factory=list)
    attribute_values: list[int] = field(default_factory=list)
    value_column: bytearray = field(default_factory=bytearray)
    texts: list[bytes] = field(default_factory=list)
    integers: list[int] = field(default_factory=list)
    unsigneds: list[int] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    doubles: list[float] = field(default_factory=list)
    _forms: dict[Form, bytes] = field(default_factory=dict)

    def add(self, stamp: FileStamp, record: FileRecord) -> None:
        """A file with its objects and attributes, or the reason why it has none."""
        number = len(self.files)
        self.files.append(stamp)
        reason = record.reason
        self.reasons.append(None if reason is None else reason.encode("utf-8", "replace"))
        for found in record.objects:
            position = len(self.object_file)
            self.object_file.append(number)
            self.object_path.append(found.path)
            self.object_kind.append(found.kind)
            self.object_form.append(self._text(found.form))
            for name, form, values in found.attributes:
                self.attribute_object.append(position)
                self.attribute_name.append(name)
                self.attribute_form.append(self._text(form))
                self.attribute_values.append(len(values))
                for value in values:
                    self._add_value(form[0], value)

    def columns(self) -> Columns:
        """What was taken in."""
        stamps = [(f.device, f.inode, f.size, f.mtime_ns) for f in self.files]
        return Columns(
            file_path=_binary([f.path for f in self.files]),
            file_reason=_binary(self.reasons),
            # Device and inode are unsigned: kept by their bits.
            file_stamp=np.array(stamps, np.uint64).view(np.int64).reshape(-1, 4),
            object_file=np.array(self.object_file, np.int32),
            object_path=_binary(self.object_path),
            object_kind=np.array(self.object_kind, np.uint8),
            object_form=_binary(self.object_form),
            attribute_object=np.array(self.attribute_object, np.int32),
            attribute_name=_binary(self.attribute_name),
            attribute_form=_binary(self.attribute_form),
            attribute_values=np.array(self.attribute_values, np.int32),
            value_column=np.frombuffer(bytes(self.value_column), np.uint8),
            texts=_binary(self.texts),
            integers=np.array(self.integers, np.int64),
            unsigneds=np.array(self.unsigneds, np.uint64),
            singles=np.array(self.singles, np.float32),
            doubles=np.array(self.doubles, np.float64),
        )

    def _text(self, form: Form) -> bytes:
        text = self._forms.get(form)
        if text is None:
            text = self._forms[form] = form_text(form)
        return text

    def _add_value(self, kind: str, value: Value) -> None:
        if isinstance(value, bytes):
            self.texts.append(value)
            self.value_column.append(TEXT)
        elif isinstance(value, int):
            if _INTEGERS[0] <= value <= _INTEGERS[1]:
                self.integers.append(value)
                self.value_column.append(INTEGER)
            else:
                self.unsigneds.append(value)
                self.value_column.append(UNSIGNED)
        elif _COLUMN_OF.get(kind) == SINGLE:
            # As 0.1 is meant by who stored it, though half the digits are lost.
            self.singles.append(float(str(np.float16(value))) if kind == "float16" else value)
            self.value_column.append(SINGLE)
        else:
            self.doubles.append(value)
            self.value_column.append(DOUBLE)


def _binary(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.large_binary())
