"""Every place in the texts of a name, in the order of the letters from there: a suffix array.

A text ends with a NUL. So what begins with some letters are consecutive places: those of texts that
contain them; with a NUL behind, of texts that end with them. Places are in order by as many letters
(`place_width`, at most eight) as fit into a number of 64 bits beside the place itself, because such
numbers are sorted several times faster than places by a comparison; every `_SAMPLE`th has its
letters at hand, to be bisected without a look at the texts.

Source: Manber and Myers, Suffix arrays, SIAM J. Comput. 22 (1993).
"""

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SAMPLE = 16
_WIDEST = 8


def separated(letters: Array, first: Array) -> tuple[Array, Array]:
    """Texts with a NUL behind each: their letters, and where each begins, and the end."""
    moved = first + np.arange(len(first))
    whole = np.zeros(int(moved[-1]), np.uint8)
    is_letter = np.ones(len(whole), bool)
    is_letter[moved[1:] - 1] = False
    whole[is_letter] = letters
    return whole, moved.astype(np.min_scalar_type(int(moved[-1])))


def joined(letters: Array, first: Array) -> tuple[Array, Array]:
    """The same without the NULs."""
    is_letter = np.ones(len(letters), bool)
    is_letter[first[1:].astype(np.int64) - 1] = False
    return letters[is_letter], first.astype(np.int64) - np.arange(len(first))


def arrays_of(letters: Array, first: Array, name_first: Array) -> dict[str, Array]:
    """The places of each name, their samples, and by how many letters they are in order."""
    names = len(name_first) - 1
    widths, has_nul = np.zeros(names, np.uint8), np.zeros(names, bool)
    places, samples = [np.empty(0, first.dtype)], [np.empty(0, np.uint64)]
    for name in range(names):
        low, high = name_first[name : name + 2].tolist()
        begin, end = int(first[low]), int(first[high])
        part = np.zeros(end - begin + _WIDEST, np.uint8)
        part[:-_WIDEST] = letters[begin:end]
        ends = first[low + 1 : high + 1].astype(np.int64) - begin - 1
        found, widths[name] = _ordered(part, ends)
        has_nul[name] = np.count_nonzero(part[:-_WIDEST] == 0) > len(ends)
        places.append((found + begin).astype(first.dtype))
        samples.append(_numbers(part, found[::_SAMPLE], int(widths[name])))
    return {
        "place": np.concatenate(places),
        "place_first": np.cumsum([len(part) for part in places]),
        "place_sample": np.concatenate(samples),
        "place_sample_first": np.cumsum([len(part) for part in samples]),
        "place_width": widths,
        "place_nul": has_nul,
    }


def _ordered(part: Array, ends: Array) -> tuple[Array, int]:
    """The places of the letters, but for the ends, in order; by so many letters."""
    count = len(part) - _WIDEST
    used = np.bincount(part, minlength=256) > 0
    code = (np.cumsum(used) - 1).astype(np.uint8)[part]
    bits = max(1, int(code.max()).bit_length())
    place_bits = count.bit_length()
    width = min(_WIDEST, (64 - place_bits) // bits)
    packed = np.zeros(count, np.uint64)
    for at in range(width):
        packed <<= np.uint64(bits)
        packed |= code[at : at + count]
    packed <<= np.uint64(place_bits)
    packed |= np.arange(count, dtype=np.uint64)
    packed[ends] = np.iinfo(np.uint64).max  # behind the others
    packed.sort()
    packed = packed[: count - len(ends)]
    packed &= np.uint64((1 << place_bits) - 1)
    return packed.view(np.int64), width


def _numbers(part: Array, places: Array, width: int) -> Array:
    """The first letters from each place as numbers that are in the same order."""
    found = np.zeros(len(places), np.uint64)
    for at in range(width):
        found |= part[places + at].astype(np.uint64) << np.uint64(8 * (_WIDEST - 1 - at))
    return found


class Places:
    """Those of one name. `begin`: where the letters of all texts begin in the mapped file."""

    def __init__(
        self, mapped: mmap.mmap, begin: int, arrays: Mapping[str, Array], name: int
    ) -> None:
        self._mapped, self._begin = mapped, begin
        low, high = arrays["place_first"][name : name + 2].tolist()
        self.array = arrays["place"][low:high]
        self._places = self.array.data
        low, high = arrays["place_sample_first"][name : name + 2].tolist()
        self._samples = arrays["place_sample"][low:high].data
        self.width = int(arrays["place_width"][name])

    def starting(self, letters: bytes) -> tuple[int, int]:
        """From which to which they have these letters, `width` at most, at least one."""
        length = len(letters)
        shift = 8 * (_WIDEST - length)
        number = int.from_bytes(letters, "big") << shift
        mapped, places, begin = self._mapped, self._places, self._begin
        end = begin + length

        def found(place: int) -> bytes:
            return mapped[begin + place : end + place]

        samples = self._samples
        block = bisect_left(samples, number)
        count = len(places)
        first, last = max(0, (block - 1) * _SAMPLE), min(count, block * _SAMPLE)
        low = bisect_left(places, letters, first, last, key=found)
        block = bisect_left(samples, number + (1 << shift), block)
        last = min(count, block * _SAMPLE)
        high = bisect_right(places, letters, max(low, last - _SAMPLE), last, key=found)
        return low, high

    def about(self, letters: bytes) -> int:
        """How many there are, sixteen more or less."""
        shift = 8 * (_WIDEST - len(letters))
        number = int.from_bytes(letters, "big") << shift
        low = bisect_left(self._samples, number)
        return _SAMPLE * (bisect_left(self._samples, number + (1 << shift), low) - low)
