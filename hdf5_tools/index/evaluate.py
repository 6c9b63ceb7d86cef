"""Which objects of a segment a query means, or which files."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from datamgr.errors import InvalidError
from hdf5_tools.harvest.records import Form, Kind
from hdf5_tools.index import quantities
from hdf5_tools.index.conditions import All, AnyOf, Compare, Has, Node, Not, Pattern
from hdf5_tools.index.segment import Segment
from hdf5_tools.index.sets import ascending, common, either, unique, without
from hdf5_tools.index.texts import NOTHING

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Set:
    """Objects (or files) that are in, ascending; or, if `others`, all but these."""

    members: Array
    others: bool = False

    def __and__(self, other: "_Set") -> "_Set":
        if self.others and other.others:
            return _Set(either(self.members, other.members), True)
        if self.others:
            return other & self
        if other.others:
            return _Set(without(self.members, other.members))
        return _Set(common(self.members, other.members))

    def __invert__(self) -> "_Set":
        return _Set(self.members, not self.others)


def objects(segment: Segment, node: Node) -> Array:
    """The objects of which the query holds, ascending."""
    if isinstance(node, Compare):
        members = _compared(segment, node)
    else:
        members = _all(segment.objects, _evaluate(segment, node, of_files=False))
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
    return without(every, found.members)


def _evaluate(segment: Segment, node: Node, of_files: bool) -> _Set:
    match node:
        case All((Compare() as low, Compare() as high)) if _is_range(segment, low, high):
            name = segment.name(low.name)
            members = NOTHING if name is None else _numbered(segment, name, (low, high))
        case All(terms):
            return reduce(_Set.__and__, (_evaluate(segment, term, of_files) for term in terms))
        case AnyOf(terms):
            # Not one of them holds not.
            none = (~_evaluate(segment, term, of_files) for term in terms)
            return ~reduce(_Set.__and__, none)
        case Not(term):
            return ~_evaluate(segment, term, of_files)
        case Has(name, unit):
            number = segment.name(name)
            members = NOTHING if number is None else segment.having(number)
            if unit is not None:
                members = common(members, _in_unit(segment, name, unit))
        case Compare():
            members = _compared(segment, node)
    if of_files:
        if segment.alive is not None:
            members = members[segment.alive[members]]
        members = unique(segment.arrays["object_file"][members])
    return _Set(members)


def _compared(segment: Segment, node: Compare) -> Array:
    if node.is_field:
        return _field(segment, node)
    name = segment.name(node.name)
    if name is None:
        return NOTHING
    if isinstance(node.value, Pattern):
        texts = segment.texts_of(name)
        if node.operator == "=":
            return texts.matching(node.value)
        return texts.compared(node.operator, node.value.parts[0])
    if node.unit is None:
        return _numbered(segment, name, [node])
    found = []
    for unit, of in segment.units_of(node.name).items():
        value = quantities.converted(node.value, node.unit, unit)
        if value is not None:
            fitting = _numbered(segment, name, [node._replace(value=value)])
            found.append(common(fitting, of))
    return unique(np.concatenate(found)) if found else NOTHING


def _in_unit(segment: Segment, name: bytes, unit: str) -> Array:
    """The objects that say that this attribute is in a unit which this can be turned into."""
    found = [
        of
        for other, of in segment.units_of(name).items()
        if quantities.converted(Decimal(1), unit, other) is not None
    ]
    return unique(np.concatenate(found)) if found else NOTHING


def _numbered(segment: Segment, name: int, bounds: Sequence[Compare]) -> Array:
    """The objects with a number of this name that is within all bounds."""
    found = []
    for numbers in segment.numbers_of(name):
        low, high = 0, len(numbers.values)
        for bound in bounds:
            begin, end = numbers.run(bound.operator, bound.value)  # type: ignore[arg-type]
            low, high = max(low, begin), min(high, end)
        if low < high:
            found.append(numbers.objects[low:high])
    if not found:
        return NOTHING
    is_equal = len(found) == 1 and len(bounds) == 1 and bounds[0].operator == "="
    if is_equal and segment.is_single(name):
        return found[0]  # those of one value are in order
    joined = found[0] if len(found) == 1 else np.concatenate(found)
    return ascending(joined) if segment.is_single(name) else unique(joined)


def _is_range(segment: Segment, low: Compare, high: Compare) -> bool:
    """Whether both bound one number: then no object needs to be looked at twice.

    Not where objects have several numbers of this name: one may fulfil this, another that.
    """
    if low.name != high.name or low.is_field or high.is_field or low.unit or high.unit:
        return False
    if isinstance(low.value, Pattern) or isinstance(high.value, Pattern):
        return False
    name = segment.name(low.name)
    return name is not None and segment.is_single(name)


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
    if isinstance(value, int) != isinstance(wanted, Decimal):
        kind = "a number" if isinstance(value, int) else "a text in quotes"
        raise InvalidError(f"query: @{node.name.decode()} is compared with {kind}")
    if isinstance(wanted, Pattern):
        if node.operator == "=":
            return wanted.fits(value)  # type: ignore[arg-type]
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
