"""A segment: files with their objects and attributes, mapped, never changed; its look-ups."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hdf5_tools.harvest.records import Form, Value
from hdf5_tools.index import container
from hdf5_tools.index.assemble import NUMBERS
from hdf5_tools.index.columns import TEXT, parse_form
from hdf5_tools.index.query import Pattern

Array = npt.NDArray[Any]

_SAMPLE = 64  # every so manyth text is kept, to look the others up in between
_GRAM = 3
NOTHING = np.empty(0, np.int32)


@dataclass(frozen=True)
class Numbers:
    """The values of one name in one column, ascending, and the object of each.

    `nans`: how many of the last ones are no numbers.
    """

    column: int
    values: Array
    objects: Array
    nans: int


class Table:
    """Strings that lie one behind the other."""

    def __init__(self, letters: Array, first: Array) -> None:
        self._letters = letters.data
        self._first = first.data
        self._known: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, number: int) -> bytes:
        return bytes(self._letters[self._first[number] : self._first[number + 1]])

    def find(self, wanted: bytes) -> int | None:
        """Where it stands in a table that is sorted."""
        at = bisect_left(self, wanted, 0, len(self))
        return int(at) if at < len(self) and self[at] == wanted else None

    def kept(self, number: int) -> bytes:
        """The same as `[number]`, faster the second time; for tables of few strings."""
        found = self._known.get(number)
        if found is None:
            found = self._known[number] = self[number]
        return found


class Texts:
    """The texts of one name: numbers `low` to `high` of the segment's."""

    def __init__(self, segment: "Segment", low: int, high: int) -> None:
        self._segment = segment
        self._low, self._high = low, high

    @cached_property
    def _samples(self) -> list[bytes]:
        return [self._segment.texts[n] for n in range(self._low, self._high, _SAMPLE)]

    @cached_property
    def _reversed(self) -> Array:
        return self._segment.arrays["reversed"][self._low : self._high]

    @cached_property
    def _reversed_samples(self) -> list[bytes]:
        return [self._segment.texts[n][::-1] for n in self._reversed[::_SAMPLE].tolist()]

    def at_least(self, text: bytes) -> int:
        """The first text that is not smaller."""
        block = bisect_left(self._samples, text)
        low = self._low + max(0, block - 1) * _SAMPLE
        high = min(self._low + block * _SAMPLE, self._high)
        texts = self._segment.texts
        while low < high:
            middle = (low + high) // 2
            if texts[middle] < text:
                low = middle + 1
            else:
                high = middle
        return low

    def starting(self, prefix: bytes) -> tuple[int, int]:
        """From which text to which they start so."""
        after = _after(prefix)
        return self.at_least(prefix), self._high if after is None else self.at_least(after)

    def ending(self, suffix: bytes) -> Array:
        """The texts that end so."""
        prefix = suffix[::-1]
        after = _after(prefix)
        end = self._high - self._low if after is None else self._reversed_at_least(after)
        return self._reversed[self._reversed_at_least(prefix) : end]

    def containing(self, part: bytes, folds: bool) -> Array:
        """The texts that may contain it, and all that do."""
        return self._scanned(part, folds) if len(part) < _GRAM else self._by_grams(part)

    def matching(self, pattern: Pattern) -> Array:
        """The numbers of the texts that match."""
        parts, texts = pattern.parts, self._segment.texts
        if not pattern.folds and len(parts) <= 2:
            if len(parts) == 1:
                at = self.at_least(parts[0])
                found = at < self._high and texts[at] == parts[0]
                return np.arange(at, at + found)
            if not parts[1]:
                return np.arange(*self.starting(parts[0]))
            if not parts[0]:
                return self.ending(parts[1])
        longest = max(parts, key=len)
        if not longest:
            return np.arange(self._low, self._high)
        matches = pattern.regex().fullmatch
        if not pattern.folds and parts[0] and len(longest) < _GRAM:
            candidates = np.arange(*self.starting(parts[0]))
        else:
            candidates = self.containing(longest, pattern.folds)
        return np.array([n for n in candidates.tolist() if matches(texts[n])], np.int64)

    def compared(self, operator: str, text: bytes) -> Array:
        """The texts that are smaller, larger, … byte by byte."""
        at = self.at_least(text)
        equal = int(at < self._high and self._segment.texts[at] == text)
        if operator in ("<", "<="):
            return np.arange(self._low, at + equal * (operator == "<="))
        return np.arange(at + equal * (operator == ">"), self._high)

    def _reversed_at_least(self, text: bytes) -> int:
        block = bisect_left(self._reversed_samples, text)
        low, high = max(0, block - 1) * _SAMPLE, min(block * _SAMPLE, self._high - self._low)
        texts, order = self._segment.texts, self._reversed
        while low < high:
            middle = (low + high) // 2
            if texts[int(order[middle])][::-1] < text:
                low = middle + 1
            else:
                high = middle
        return low

    def _by_grams(self, part: bytes) -> Array:
        arrays, folded = self._segment.arrays, part.lower()
        lists = []
        for at in range(len(folded) - _GRAM + 1):
            code = int.from_bytes(folded[at : at + _GRAM], "big")
            position = int(np.searchsorted(arrays["gram"], np.uint32(code)))
            if position == len(arrays["gram"]) or arrays["gram"][position] != code:
                return NOTHING
            first, last = arrays["gram_first"][position : position + 2]
            found = arrays["gram_text"][first:last]
            low, high = np.searchsorted(found, [self._low, self._high])
            lists.append(found[low:high])
        lists.sort(key=len)
        chosen = lists[0]
        for other in lists[1:]:
            if len(chosen) * _SAMPLE < len(other) or not len(chosen):
                break  # looking at the few texts costs less than this list
            chosen = np.intersect1d(chosen, other, assume_unique=True)
        return chosen

    def _scanned(self, part: bytes, folds: bool) -> Array:
        """By one search over all the letters; a match may not reach into the next text."""
        first = self._segment.arrays["text_first"]
        begin, end = int(first[self._low]), int(first[self._high])
        letters = self._segment.arrays["text_bytes"][begin:end]
        flags = re.DOTALL | (re.IGNORECASE if folds else 0)
        pattern = re.compile(b"(?=" + re.escape(part) + b")", flags)
        at = np.array([match.start() + begin for match in pattern.finditer(letters.data)], np.int64)
        of = np.searchsorted(first, at, side="right") - 1
        return np.unique(of[at + len(part) <= first[of + 1]])


class Segment:
    """One mapped file.

    `dead`: numbers of its files that another segment has a newer version of, or that are gone.
    """

    def __init__(self, path: Path, dead: Array | None = None) -> None:
        # The arrays keep the mapping open.
        _, self.arrays = container.read(path)
        self.files = self._table("file")
        self.paths = self._table("path")
        self.forms = self._table("form")
        self.names = self._table("name")
        self.texts = self._table("text")
        self.reasons = self._table("reason")
        self._attribute_forms = self._table("attribute_form_text")
        self._texts: dict[int, Texts] = {}
        self._found: dict[bytes, int | None] = {}
        self._single: dict[int, bool] = {}
        self._numbers: dict[int, list[Numbers]] = {}
        self._dead = dead if dead is not None and len(dead) else None

    @property
    def objects(self) -> int:
        """How many there are, dead ones too."""
        return len(self.arrays["object_file"])

    @cached_property
    def alive(self) -> Array | None:
        """Which objects are; None: all."""
        if self._dead is None:
            return None
        return ~np.isin(self.arrays["object_file"], self._dead)

    @property
    def files_alive(self) -> Array:
        """Which files are."""
        alive = np.ones(len(self.files), bool)
        if self._dead is not None:
            alive[self._dead] = False
        return alive

    def name(self, wanted: bytes) -> int | None:
        """The number of an attribute's name."""
        if wanted not in self._found:
            self._found[wanted] = self.names.find(wanted)
        return self._found[wanted]

    def having(self, name: int) -> Array:
        """The objects with an attribute of this name, ascending."""
        return self._of(name, "has_first", "has_object")

    def texts_of(self, name: int) -> Texts:
        """The texts of a name."""
        found = self._texts.get(name)
        if found is None:
            low, high = self.arrays["text_name_first"][name : name + 2]
            found = self._texts[name] = Texts(self, int(low), int(high))
        return found

    def objects_of_texts(self, texts: Array) -> Array:
        """The objects with one of these texts, which ascend; ascending too."""
        first, objects = self.arrays["text_post_first"], self.arrays["text_object"]
        if not len(texts):
            return NOTHING
        if len(texts) == 1:
            single: Array = objects[first[texts[0]] : first[texts[0] + 1]]
            return single
        if texts[-1] - texts[0] + 1 == len(texts):
            return unique(objects[first[texts[0]] : first[texts[-1] + 1]])
        runs = zip(first[texts].tolist(), first[texts + 1].tolist(), strict=True)
        return unique(np.concatenate([objects[low:high] for low, high in runs]))

    def numbers_of(self, name: int) -> list[Numbers]:
        """The numbers of a name, in each column that has some."""
        known = self._numbers.get(name)
        if known is None:
            known = self._numbers[name] = []
            for code, (column, _) in NUMBERS.items():
                values = self._of(name, f"{column}_first", f"{column}_value")
                if len(values):
                    objects = self._of(name, f"{column}_first", f"{column}_object")
                    # They are sorted behind everything.
                    floats = values.dtype.kind == "f"
                    nans = len(values) - np.searchsorted(values, np.nan) if floats else 0
                    known.append(Numbers(code, values, objects, int(nans)))
        return known

    def is_single(self, name: int) -> bool:
        """Whether no object has two numbers of this name; looked up once."""
        known = self._single.get(name)
        if known is None:
            known = self._single[name] = all(
                len(unique(numbers.objects)) == len(numbers.objects)
                for numbers in self.numbers_of(name)
            )
        return known

    def paths_of(self, objects: Array) -> list[tuple[bytes, bytes]]:
        """File and path of each object."""
        file, path = self.files.kept, self.paths.kept
        files = self.arrays["object_file"][objects].tolist()
        paths = self.arrays["object_path"][objects].tolist()
        return [(file(f), path(p)) for f, p in zip(files, paths, strict=True)]

    def form_of(self, number: int) -> Form:
        """Type and shape of an object."""
        return self.form_of_text(int(self.arrays["object_form"][number]))

    def form_of_text(self, form: int) -> Form:
        """The form of a number in `object_form`."""
        return parse_form(self.forms.kept(form))

    def attributes_of(self, number: int) -> dict[bytes, tuple[Form, tuple[Value, ...]]]:
        """Every attribute of an object, with its form and values."""
        arrays = self.arrays
        low, high = arrays["attribute_first"][number : number + 2].tolist()
        return {
            self.names.kept(int(arrays["attribute_name"][a])): (
                parse_form(self._attribute_forms.kept(int(arrays["attribute_form"][a]))),
                self._values(a),
            )
            for a in range(low, high)
        }

    def values_of(self, number: int, name: bytes) -> tuple[Value, ...] | None:
        """The values of an attribute; None if the object does not have it."""
        wanted, arrays = self.name(name), self.arrays
        if wanted is None:
            return None
        low, high = arrays["attribute_first"][number : number + 2].tolist()
        at = low + int(np.searchsorted(arrays["attribute_name"][low:high], wanted))
        if at == high or arrays["attribute_name"][at] != wanted:
            return None
        return self._values(at)

    def _values(self, attribute: int) -> tuple[Value, ...]:
        arrays = self.arrays
        low, high = arrays["value_first"][attribute : attribute + 2].tolist()
        columns = arrays["value_column"][low:high].tolist()
        references = arrays["value_reference"][low:high].tolist()
        values: list[Value] = []
        for column, reference in zip(columns, references, strict=True):
            if column == TEXT:
                values.append(self.texts[reference])
            else:
                values.append(arrays[f"{NUMBERS[column][0]}_value"][reference].item())
        return tuple(values)

    def _of(self, name: int, first: str, values: str) -> Array:
        low, high = self.arrays[first][name : name + 2]
        return self.arrays[values][low:high]

    def _table(self, name: str) -> Table:
        return Table(self.arrays[f"{name}_bytes"], self.arrays[f"{name}_first"])


def unique(objects: Array) -> Array:
    """In order, once each; for few, quicker than numpy's own."""
    if len(objects) < 2:
        return objects
    ordered = np.sort(objects)
    differs = ordered[1:] != ordered[:-1]
    if differs.all():
        return ordered
    kept: Array = ordered[np.concatenate(([True], differs))]
    return kept


def _after(prefix: bytes) -> bytes | None:
    """The smallest text that is larger than every one with this prefix; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
