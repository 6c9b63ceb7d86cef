"""The texts of one attribute name: which objects have one that fits a pattern."""

import mmap
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from hdf5_tools.index.assemble import bucket_of
from hdf5_tools.index.conditions import Pattern
from hdf5_tools.index.places import Places
from hdf5_tools.index.sets import ascending, unique
from hdf5_tools.index.strings import Ascending, Table, keys, keys_backwards

Array = npt.NDArray[Any]

_FEW = 16  # up to which Python's own loop is the fastest
_WINDOWS = 16  # of a long part, that are looked up to take the rarest
_FOLDED = 4  # letters of which every case is looked up
NOTHING = np.empty(0, np.int32)


class Texts:
    """Those of name number `name` of a segment. `single`: no object has two of them."""

    def __init__(
        self, mapped: mmap.mmap, begin: int, arrays: Mapping[str, Array], name: int, *, single: bool
    ) -> None:
        self._arrays, self._name = arrays, name
        self._texts = texts = Table(mapped, begin, arrays["text_first"], 1)
        self._text_first = arrays["text_first"].data
        self._low, self._high = low, high = arrays["text_name_first"][name : name + 2].tolist()
        self._bucket_first = arrays["bucket_first"].data
        self._bucket_text = arrays["bucket_text"].data
        self._objects, self._first = arrays["text_object"], arrays["text_post_first"]
        self._first_of = self._first.data
        self._in_order = ascending if single else unique
        # Then the objects are in the order of the texts.
        self._is_one_each = int(self._first[high]) - int(self._first[low]) == high - low
        self._places = Places(mapped, begin, arrays, name)
        self._has_nul = bool(arrays["place_nul"][name])
        self._text = texts.__getitem__

    def matching(self, pattern: Pattern) -> Array:
        """The objects that have a text that matches, ascending."""
        parts = pattern.parts
        if not pattern.folds:
            if len(parts) == 1:
                return self._having_one(parts[0])
            if len(parts) == 2 and not parts[1]:
                return self._in_order(self._run(*self._forwards.starting(parts[0])))
            if len(parts) == 2 and not parts[0]:
                low, high = self._backwards.starting(parts[1][::-1])
                return self._having(self._reversed[low:high])
        if not any(parts):
            if len(parts) == 1:
                return self._having_one(b"")
            return self._in_order(self._run(self._low, self._high))
        return self._having(self._fitting(pattern))

    def listed(self) -> Iterator[tuple[bytes, Array]]:
        """Each text with the objects that have it."""
        for number in range(self._low, self._high):
            yield self._text(number), self._run(number, number + 1)

    def compared(self, operator: str, text: bytes) -> Array:
        """The objects that have a text that is smaller, larger, … byte by byte; ascending."""
        at = self._forwards.at_least(text)
        equal = at < self._high and self._text(at) == text
        if operator in ("<", "<="):
            return self._in_order(self._run(self._low, at + (equal and operator == "<=")))
        return self._in_order(self._run(at + (equal and operator == ">"), self._high))

    @cached_property
    def _forwards(self) -> Ascending:
        first = self._arrays["text_first"][self._low : self._high + 1]
        known = keys(self._arrays["text_bytes"], first, 1)
        return Ascending(self._text, self._low, self._high, known)

    @cached_property
    def _reversed(self) -> Array:
        """The texts in the order of their letters from the end."""
        return self._arrays["reversed"][self._low : self._high]

    @cached_property
    def _backwards(self) -> Ascending:
        order, text = self._reversed.data, self._text
        first = self._arrays["text_first"]
        known = keys_backwards(self._arrays["text_bytes"], first, self._reversed, 1)
        return Ascending(lambda k: text(order[k])[::-1], 0, len(order), known)

    def _having_one(self, text: bytes) -> Array:
        """The objects that have this text."""
        bucket = bucket_of(text, self._name, len(self._bucket_first) - 1)
        first, last = self._bucket_first[bucket], self._bucket_first[bucket + 1]
        for number in self._bucket_text[first:last]:
            if self._text(number) == text and self._low <= number < self._high:
                return self._run(number, number + 1)  # listed in order, once each
        return NOTHING

    def _run(self, low: int, high: int) -> Array:
        """The objects of consecutive texts, those of each in order."""
        return self._objects[self._first_of[low] : self._first_of[max(low, high)]]

    def _having(self, texts: Array | list[int]) -> Array:
        """The objects that have one of these texts, ascending; each text once."""
        if len(texts) == 1:
            return self._run(texts[0], texts[0] + 1)
        if not len(texts):
            return NOTHING
        numbers = np.asarray(texts)
        if self._is_one_each:
            every = self._run(self._low, self._high)
            return self._in_order(every.take(numbers - self._low))
        starts = self._first.take(numbers).astype(np.int64)
        counts = self._first.take(numbers + 1) - starts
        ends = counts.cumsum()
        # Each run of consecutive places begins where its text's objects do.
        places = np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)
        return self._in_order(self._objects.take(places))

    def _fitting(self, pattern: Pattern) -> Array | list[int]:
        """The texts that fit, ascending; those with its rarest letters are looked at."""
        parts, places = pattern.parts, self._places
        pieces = _pieces(parts)
        if len(pieces) == 1 and not pattern.folds and len(pieces[0]) <= places.width:
            found = self._at(*places.starting(pieces[0]))
            if not self._has_nul and (parts[:-1] == (b"",) or parts == (b"", parts[1], b"")):
                return found
            return self._verified(found, pattern)
        candidates: Array | list[int] | range = range(self._low, self._high)
        fewest = len(candidates)
        if parts[0] and len(parts) > 1 and not pattern.folds:
            low, high = self._forwards.starting(parts[0])
            candidates, fewest = range(low, high), high - low
        windows = _windows(pieces, min(places.width, _FOLDED) if pattern.folds else places.width)
        variants = [_cases(window) if pattern.folds else [window] for window in windows]
        counts = [sum(map(places.about, cases)) for cases in variants]
        if counts and min(counts) < fewest:
            runs = [places.starting(case) for case in variants[counts.index(min(counts))]]
            each = [self._at(*run) for run in runs]
            whole = [np.asarray(numbers, np.int64) for numbers in each]
            candidates = each[0] if len(each) == 1 else unique(np.concatenate(whole))
        return self._verified(candidates, pattern)

    def _at(self, low: int, high: int) -> Array | list[int]:
        """The texts that places are in, ascending, once each."""
        places, first = self._places.array[low:high], self._text_first
        if len(places) <= _FEW:
            within = self._low + 1, self._high
            return sorted({bisect_right(first, p, *within) - 1 for p in places.tolist()})
        first_of_each = self._arrays["text_first"][self._low + 1 : self._high]
        return unique(first_of_each.searchsorted(ascending(places), "right") + self._low)

    def _verified(
        self, candidates: Array | list[int] | range, pattern: Pattern
    ) -> Array | list[int]:
        text, fits = self._text, pattern.fits
        listed = candidates.tolist() if isinstance(candidates, np.ndarray) else candidates
        return [number for number in listed if fits(text(number))]


def _pieces(parts: tuple[bytes, ...]) -> list[bytes]:
    """The letters that a text has, with the NUL that ends it; no others, of which places know
    nothing.
    """
    pieces = [piece for part in parts for piece in part.split(b"\0") if piece]
    if parts[-1] and not parts[-1].endswith(b"\0"):
        pieces[-1] += b"\0"
    return pieces


def _windows(pieces: list[bytes], width: int) -> list[bytes]:
    windows = []
    for piece in pieces:
        last = max(0, len(piece) - width)
        windows += [piece[at : at + width] for at in range(0, last + 1, last // _WINDOWS + 1)]
    return windows


def _cases(window: bytes) -> list[bytes]:
    """The same letters, each small or capital (of ASCII)."""
    letters = ({bytes([letter]).lower(), bytes([letter]).upper()} for letter in window)
    return [b"".join(chosen) for chosen in product(*letters)]
