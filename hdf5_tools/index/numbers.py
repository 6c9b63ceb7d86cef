"""The numbers of one attribute name in one column: which of them a comparison means."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NEAR = 64  # as far as the equal ones reach, often
_SINGLE_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Numbers:
    """Values, ascending, with NaN behind them, and the object of each."""

    values: Array
    objects: Array

    def run(self, operator: str, bound: Decimal) -> tuple[int, int]:
        """From where to where they are smaller, equal, …; NaN is neither."""
        low, high = self._of(bound)
        match operator:
            case "=":
                return low, high
            case "<":
                return 0, low
            case "<=":
                return 0, high
            case ">":
                return high, self.comparable
            case _:
                return low, self.comparable

    @cached_property
    def comparable(self) -> int:
        """How many are not NaN."""
        if self.values.dtype.kind != "f":
            return len(self.values)
        return int(self.values.searchsorted(self.values.dtype.type(np.nan)))

    @cached_property
    def _seen(self) -> memoryview:
        """Python's own bisection takes half the time of numpy's, which may copy everything."""
        return self.values.data

    def _of(self, bound: Decimal) -> tuple[int, int]:
        seen = self._seen
        kind = self.values.dtype
        if kind.kind == "f":
            # In the precision of what is stored: 0.1 is what was stored as 0.1.
            wanted = float(bound)
            if kind.itemsize == 4 and abs(wanted) <= _SINGLE_MAX:
                wanted = float(np.float32(wanted))
            low = bisect_left(seen, wanted, 0, self.comparable)
            return low, bisect_right(seen, wanted, low, self.comparable)
        whole = math.floor(bound)
        if whole != bound:
            low = bisect_right(seen, whole)
            return low, low
        low = bisect_left(seen, whole)
        near = low + _NEAR
        if near < len(seen) and seen[near] > whole:
            return low, bisect_right(seen, whole, low, near)
        return low, bisect_right(seen, whole, low)
