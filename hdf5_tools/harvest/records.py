"""What is harvested from a file."""

from dataclasses import dataclass, field
from enum import IntEnum

# Attributes with more values than this are found by name, type and shape, not by value.
MAX_VALUES = 1024

# What a type is called, and a shape: None of nothing at all, () of a single value.
Form = tuple[str, tuple[int, ...] | None]
Value = int | float | bytes
# Name, form, and the values in C order: integers, floats, text as bytes. A compound has none
# itself; its fields follow as attributes NAME.FIELD.
Attribute = tuple[bytes, Form, tuple[Value, ...]]

GROUP_FORM: Form = ("group", None)


class Kind(IntEnum):
    """What an object is."""

    GROUP = 0
    DATASET = 1
    DATATYPE = 2


class Refused(Exception):
    """Why a file cannot be harvested, in one sentence. `may_pass`: as of `FileRecord`."""

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


@dataclass(slots=True)
class ObjectRecord:
    """An object under the first path that a walk in the order of names meets it by."""

    path: bytes
    kind: Kind
    form: Form
    attributes: list[Attribute] = field(default_factory=list)


@dataclass(slots=True)
class FileRecord:
    """A file: its objects, the root group first, or the reason why there are none.

    `may_pass`: the reason may pass without any change of the file, as a missing permission.
    """

    objects: list[ObjectRecord]
    reason: str | None = None
    may_pass: bool = False
