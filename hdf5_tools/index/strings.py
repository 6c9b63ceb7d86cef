"""Strings that lie one behind the other in a mapped file, and look-ups among sorted ones."""

import mmap
from bisect import bisect_left
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hdf5_tools.index.sets import unique

Array = npt.NDArray[Any]

_SAMPLE = 64  # every so manyth text is kept, to look the others up in between
_KEY = 8  # bytes from the beginning of each text that are kept as a number


class Table:
    """Strings by number. `begin`: where their bytes begin in the file; `first`: each in these.

    `gap`: how many bytes stand between them.
    """

    def __init__(self, mapped: mmap.mmap, begin: int, first: Array, gap: int = 0) -> None:
        self._mapped = mapped
        self._begin = begin
        self._end = begin - gap
        self._first = first.data

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, number: int) -> bytes:
        begin, first = self._begin, self._first
        return self._mapped[begin + first[number] : self._end + first[number + 1]]

    def find(self, wanted: bytes) -> int | None:
        """Where it stands in a table that is sorted."""
        at = bisect_left(self, wanted, 0, len(self))
        return int(at) if at < len(self) and self[at] == wanted else None


class Known(dict[int, bytes]):
    """The strings of a table as objects, each made when it is asked for first."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        # Both take memory where they are used only.
        self._objects = np.empty(len(table), object)
        self._is_made = np.zeros(len(table), bool)

    def __missing__(self, number: int) -> bytes:
        found = self[number] = self._objects[number] = self._table[number]
        self._is_made[number] = True
        return found

    def take(self, numbers: Array) -> list[bytes]:
        """One for each number, for many at once."""
        if len(self) < len(self._objects):
            made = self._is_made.take(numbers)
            if np.count_nonzero(made) < len(made):  # sooner known than by made.all()
                for number in unique(numbers[~made]).tolist():
                    self[number]
        return self._objects.take(numbers).tolist()  # type: ignore[no-any-return]


class Ascending:
    """Texts in order: `text(n)` for n from `low` to `high`; `keys` of each, if at hand."""

    def __init__(
        self, text: Callable[[int], bytes], low: int, high: int, keys: Array | None = None
    ) -> None:
        self._text = text
        self._low, self._high = low, high
        self._all = range(high)
        self._keys = None if keys is None else keys.data

    @cached_property
    def _samples(self) -> list[bytes]:
        return [self._text(number) for number in range(self._low, self._high, _SAMPLE)]

    def at_least(self, wanted: bytes) -> int:
        """The first that is not smaller."""
        block = bisect_left(self._samples, wanted)
        if not block:
            return self._low
        last = self._low + block * _SAMPLE
        low, high = last - _SAMPLE + 1, min(last, self._high)
        return bisect_left(self._all, wanted, low, high, key=self._text)

    def starting(self, prefix: bytes) -> tuple[int, int]:
        """From which to which they start so."""
        length = len(prefix)
        if self._keys is not None and 0 < length <= _KEY:
            # Python's own bisection of numbers, without a call of Python for each step.
            shift = 8 * (_KEY - length)
            first = int.from_bytes(prefix, "big") << shift
            low = bisect_left(self._keys, first)
            after = first + (1 << shift)
            high = bisect_left(self._keys, after, low)
            if prefix[-1]:
                return self._low + low, self._low + high
        after_all = _after(prefix)
        return (
            self.at_least(prefix),
            self._high if after_all is None else self.at_least(after_all),
        )


def keys(letters: Array, first: Array, gap: int = 0) -> Array:
    """The first `_KEY` bytes of texts as numbers that are in the same order; zeros fill them up.

    `letters`: the bytes of all; `first`: where each begins in them, and the end; `gap`: how many
    bytes stand behind each.
    """
    begins, lengths = first[:-1], np.diff(first) - gap
    found = np.zeros(len(begins), np.uint64)
    for at in range(_KEY):
        has = lengths > at
        found[has] |= letters[begins[has] + at].astype(np.uint64) << np.uint64(8 * (_KEY - 1 - at))
    return found


def keys_backwards(letters: Array, first: Array, order: Array, gap: int = 0) -> Array:
    """The same of their last bytes, from the end; in the order of `order`."""
    begins, ends = first[:-1][order].astype(np.int64), first[1:][order].astype(np.int64) - gap
    lengths = ends - begins
    found = np.zeros(len(order), np.uint64)
    for at in range(_KEY):
        has = lengths > at
        found[has] |= letters[ends[has] - 1 - at].astype(np.uint64) << np.uint64(
            8 * (_KEY - 1 - at)
        )
    return found


def _after(prefix: bytes) -> bytes | None:
    """The smallest text that is larger than every one with this prefix; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
