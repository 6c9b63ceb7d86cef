"""Which objects of a segment a query means, or which files."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from datamgr.errors import InvalidError
from hdf5_tools.harvest.records import Form, Kind
from hdf5_tools.index.columns import DOUBLE, SINGLE
from hdf5_tools.index.query import All, AnyOf, Compare, Has, Node, Not, Pattern
from hdf5_tools.index.segment import NOTHING, Numbers, Segment, unique

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Set:
    """Objects (or files) that are in, ascending; or, if `others`, all but these."""

    members: Array
    others: bool = False

    def __and__(self, other: "_Set") -> "_Set":
        if self.others and other.others:
            return _Set(np.union1d(self.members, other.members), True)
        if self.others:
            return other & self
        if other.others:
            return _Set(np.setdiff1d(self.members, other.members, assume_unique=True))
        return _Set(np.intersect1d(self.members, other.members, assume_unique=True))

    def __invert__(self) -> "_Set":
        return _Set(self.members, not self.others)


def objects(segment: Segment, node: Node) -> Array:
    """The objects of which the query holds, ascending."""
    found = _evaluate(segment, node, of_files=False)
    members = _all(segment.objects, found)
    return members if segment.alive is None else members[segment.alive[members]]


def files(segment: Segment, node: Node) -> Array:
    """The files of which the query holds, each comparison by any object of the file."""
    members = _all(len(segment.files), _evaluate(segment, node, of_files=True))
    usable = segment.files_alive & ~segment.arrays["file_failed"]
    chosen: Array = members[usable[members]]
    return chosen


def _all(count: int, found: _Set) -> Array:
    if not found.others:
        return found.members
    every = np.arange(count, dtype=np.int32)
    others: Array = np.setdiff1d(every, found.members, assume_unique=True)
    return others


def _evaluate(segment: Segment, node: Node, of_files: bool) -> _Set:
    match node:
        case All((Compare() as low, Compare() as high)) if _is_range(segment, low, high):
            members = _in_range(segment, low, high)
        case All(terms):
            return reduce(_Set.__and__, (_evaluate(segment, term, of_files) for term in terms))
        case AnyOf(terms):
            # Not one of them holds not.
            none = (~_evaluate(segment, term, of_files) for term in terms)
            return ~reduce(_Set.__and__, none)
        case Not(term):
            return ~_evaluate(segment, term, of_files)
        case Has(name):
            number = segment.name(name)
            members = NOTHING if number is None else segment.having(number)
        case Compare():
            members = _field(segment, node) if node.is_field else _compared(segment, node)
    if of_files:
        if segment.alive is not None:
            members = members[segment.alive[members]]
        members = np.unique(segment.arrays["object_file"][members])
    return _Set(members)


def _compared(segment: Segment, node: Compare) -> Array:
    number = segment.name(node.name)
    if number is None:
        return NOTHING
    if isinstance(node.value, Pattern):
        texts = segment.texts_of(number)
        if node.operator == "=":
            return segment.objects_of_texts(np.sort(texts.matching(node.value)))
        return segment.objects_of_texts(texts.compared(node.operator, node.value.parts[0]))
    found = []
    for numbers in segment.numbers_of(number):
        low, high = _run(numbers, node.operator, node.value)
        found.append(numbers.objects[low:high])
    return _joined(found)


def _joined(found: list[Array]) -> Array:
    if len(found) == 1:
        return unique(found[0])
    return unique(np.concatenate(found)) if found else NOTHING


def _is_range(segment: Segment, low: Compare, high: Compare) -> bool:
    """Whether both bound one number: then no object needs to be looked at twice.

    Not where objects have several numbers of this name: one may fulfil this, another that.
    """
    if low.name != high.name or low.is_field or high.is_field:
        return False
    if isinstance(low.value, Pattern) or isinstance(high.value, Pattern):
        return False
    name = segment.name(low.name)
    if name is None:
        return False
    numbers = segment.numbers_of(name)
    return len(numbers) == 1 and segment.is_single(name)


def _in_range(segment: Segment, low: Compare, high: Compare) -> Array:
    name = segment.name(low.name)
    assert name is not None  # noqa: S101  _is_range
    [numbers] = segment.numbers_of(name)
    assert isinstance(low.value, Fraction)  # noqa: S101
    assert isinstance(high.value, Fraction)  # noqa: S101
    first, last = _run(numbers, low.operator, low.value)
    begin, end = _run(numbers, high.operator, high.value)
    return unique(numbers.objects[max(first, begin) : max(0, min(last, end))])


def _run(numbers: Numbers, operator: str, value: Fraction) -> tuple[int, int]:
    """From where to where numbers are smaller, equal, …; NaN is neither."""
    values, end = numbers.values, len(numbers.values)
    if numbers.column in (SINGLE, DOUBLE):
        end -= numbers.nans
        # In the precision of what is stored: 0.1 is what was stored as 0.1.
        bound: Any = np.float64(_double(value))
        if abs(bound) <= np.finfo(values.dtype).max:
            bound = values.dtype.type(bound)
        low = int(np.searchsorted(values[:end], bound, "left"))
        high = int(np.searchsorted(values[:end], bound, "right"))
    else:
        low = _whole(values, math.ceil(value))
        high = _whole(values, math.floor(value) + 1)
    match operator:
        case "=":
            return low, high
        case "<":
            return 0, low
        case "<=":
            return 0, high
        case ">":
            return high, end
        case _:
            return low, end


def _double(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _whole(values: Array, bound: int) -> int:
    """How many are smaller than an integer of any size."""
    limits = np.iinfo(values.dtype)
    if bound <= limits.min:
        return 0
    if bound > limits.max:
        return len(values)
    return int(np.searchsorted(values, values.dtype.type(bound), "left"))


def _field(segment: Segment, node: Compare) -> Array:
    """Objects by what they are; each different path, form or kind is looked at once."""
    arrays, name = segment.arrays, node.name.decode()
    if name == "path":
        fits = [_holds(segment.paths[k], node) for k in range(len(segment.paths))]
        return _chosen(fits, arrays["object_path"])
    if name == "file":
        fits = [_holds(segment.files[k], node) for k in range(len(segment.files))]
        return _chosen(fits, arrays["object_file"])
    if name == "kind":
        fits = [_holds(kind.name.lower().encode(), node) for kind in Kind]
        return _chosen(fits, arrays["object_kind"])
    forms = [segment.form_of_text(k) for k in range(len(segment.forms))]
    fits = [_holds(_property(name, form), node) for form in forms]
    of_form = _chosen(fits, arrays["object_form"])
    # A group has no type and no shape.
    described: Array = of_form[arrays["object_kind"][of_form] != Kind.GROUP]
    return described


def _property(name: str, form: Form) -> bytes | int:
    kind, shape = form
    if name == "dtype":
        return kind.encode("utf-8", "surrogateescape")
    if name == "shape":
        return b"-" if shape is None else ",".join(map(str, shape)).encode()
    return -1 if shape is None else len(shape)


def _holds(value: bytes | int, node: Compare) -> bool:
    wanted = node.value
    if isinstance(value, int) != isinstance(wanted, Fraction):
        kind = "a number" if isinstance(value, int) else "a text in quotes"
        raise InvalidError(f"query: @{node.name.decode()} is compared with {kind}")
    if isinstance(wanted, Pattern):
        if node.operator == "=":
            return wanted.regex().fullmatch(value) is not None  # type: ignore[arg-type]
        bound: Any = wanted.parts[0]
    else:
        bound = wanted
    smaller, equal = bool(value < bound), bool(value == bound)
    return {
        "=": equal, "<": smaller, "<=": smaller or equal, ">": not (smaller or equal),
        ">=": not smaller,
    }[node.operator]  # fmt: skip


def _chosen(fits: list[bool], of: Array) -> Array:
    chosen: Array = np.flatnonzero(np.array(fits, bool)[of]).astype(np.int32)
    return chosen
