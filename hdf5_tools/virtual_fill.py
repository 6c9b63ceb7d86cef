"""What a virtual dataset shows where no source has data."""

from typing import Any

import numpy as np

from datamgr.errors import InvalidError


def impossible(dtype: np.dtype[Any]) -> Any:
    """A value that stands for "no source": NaN, the largest unsigned, the smallest signed.

    Other types have none, and show what HDF5 shows: zeros, or texts of no characters.
    """
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.max if dtype.kind == "u" else limits.min
    return None


def fitting(value: complex, dtype: np.dtype[Any]) -> Any:
    """The value in this type, exactly or, of real numbers, as near as the type comes.

    Raises:
        InvalidError: the type does not have it.
    """
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if isinstance(value, int) and limits.min <= value <= limits.max:
            return dtype.type(value)
        raise InvalidError(f"{value} is no {dtype}: that goes from {limits.min} to {limits.max}")
    if dtype.kind in "fc":
        with np.errstate(over="ignore"):
            fitted = dtype.type(value)
        if np.isinf(fitted) == np.isinf(value):
            return fitted
        raise InvalidError(f"{value} is too large for {dtype}")
    raise InvalidError(f"a fill value can be given for numbers, and these are {dtype}")
