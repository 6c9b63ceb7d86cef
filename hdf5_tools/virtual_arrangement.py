"""How sources lie in a virtual dataset: which of their frames goes where."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from datamgr import display
from datamgr.errors import InvalidError
from hdf5_tools.virtual_sources import MOST, Opened, is_same_type, type_of


class How(StrEnum):
    """How sources become one array of frames (elements along the first axis)."""

    STACK = "stack"  # a new first axis, one source each
    CONCATENATE = "concatenate"  # one after the other
    INTERLEAVE = "interleave"  # frame i of source k of n is frame i n + k
    TILE = "tile"  # side by side, each at its place


@dataclass(frozen=True)
class Part:
    """What of one source goes where: `count` frames from `first`, to `to`, every `step`-th."""

    source: int
    first: int
    count: int
    to: int
    step: int = 1


def require_alike(opened: Sequence[Opened], how: How) -> None:
    """Be sure that sources fit together.

    Raises:
        InvalidError: they do not; the message names the first that does not.
    """
    first = opened[0]
    for found in opened:
        shown = found.shown
        if not is_same_type(found.type, first.type):
            raise InvalidError(
                f"{shown} has the type {type_of(found.type)}, the first {type_of(first.type)}"
            )
        if not found.shape:
            raise InvalidError(f"{shown} is a single value and has no frames")
        alike = found.shape if how == How.STACK else found.shape[1:]
        wanted = first.shape if how == How.STACK else first.shape[1:]
        if how != How.TILE and alike != wanted:
            raise InvalidError(f"{shown} has the shape {found.shape}, the first {first.shape}")
        if how == How.TILE and len(found.source.at) != len(found.shape) - 1:
            raise InvalidError(f"{shown} has the shape {found.shape}: `at` needs one number less")
        if found.ids is not None:
            if how == How.STACK:
                raise InvalidError("stacked sources cannot be aligned by frame numbers")
            if found.ids.dtype.kind not in "iu":
                raise InvalidError(f"the frame numbers of {shown} are {found.ids.dtype}")
            if len(found.ids) < found.shape[0]:
                raise InvalidError(
                    f"{shown} has {found.shape[0]} frames and {len(found.ids)} frame numbers"
                )
            if found.shape[0] and int(found.ids[: found.shape[0]].max()) > MOST:
                raise InvalidError(f"the frame numbers of {shown} go beyond {MOST}")
            twice = _twice(found.ids[: found.shape[0]])
            if twice is not None:
                raise InvalidError(f"{shown} has two frames of the number {twice}")


def arranged(opened: Sequence[Opened], how: How) -> tuple[int, list[Part]]:
    """How many frames there are, and which parts go where."""
    lengths = [found.shape[0] for found in opened]
    if opened[0].ids is not None:
        return _aligned(opened, how)
    if how == How.STACK:
        return len(opened), [Part(k, 0, lengths[k], k) for k in range(len(opened))]
    if how == How.TILE:
        return max(lengths), [Part(k, 0, n, 0) for k, n in enumerate(lengths)]
    if how == How.INTERLEAVE:
        step = len(opened)
        end = max((n - 1) * step + k + 1 if n else 0 for k, n in enumerate(lengths))
        return end, [Part(k, 0, n, k, step) for k, n in enumerate(lengths)]
    starts = np.cumsum([0, *lengths])
    return int(starts[-1]), [Part(k, 0, n, int(starts[k])) for k, n in enumerate(lengths)]


def shape(opened: Sequence[Opened], how: How, frames: int) -> tuple[int, ...]:
    """The extent of the whole, of so many frames.

    Raises:
        InvalidError: tiles overlap or have other dimensions, or HDF5 does not count that far.
    """
    found = _extent(opened, how, frames)
    if prod(found) > MOST or max(found) > MOST:
        raise InvalidError(f"it would have the shape {found}, which is more than HDF5 counts")
    return found


def _aligned(opened: Sequence[Opened], how: How) -> tuple[int, list[Part]]:
    """Frames by their numbers: the smallest of all is the first frame, and none is left out."""
    numbers = []
    for found in opened:
        assert found.ids is not None  # noqa: S101  all have them or none
        numbers.append(found.ids[: found.shape[0]].astype(np.int64))
    present = [n for n in numbers if len(n)]
    if not present:
        raise InvalidError("no source has a frame yet")
    first = min(int(n.min()) for n in present)
    last = max(int(n.max()) for n in present)
    if how != How.TILE:
        twice = _twice(np.concatenate(present))
        if twice is not None:
            raise InvalidError(f"two sources have a frame of the number {twice}; only tiles may")
    parts = []
    for k, mine in enumerate(numbers):
        # Runs of frames whose numbers follow each other are one mapping.
        starts = np.flatnonzero(np.diff(mine, prepend=mine[:1] - 2) != 1)
        ends = np.append(starts[1:], len(mine))
        parts += [
            Part(k, int(a), int(b - a), int(mine[a]) - first)
            for a, b in zip(starts, ends, strict=True)
        ]
    return last - first + 1, parts


def _extent(opened: Sequence[Opened], how: How, frames: int) -> tuple[int, ...]:
    if how == How.STACK:
        return (frames, *opened[0].shape)
    if how != How.TILE:
        return (frames, *opened[0].shape[1:])
    corners = [
        tuple(a + n for a, n in zip(found.source.at, found.shape[1:], strict=True))
        for found in opened
    ]
    if len({len(corner) for corner in corners}) != 1:
        raise InvalidError("tiles have frames of different dimensions")
    _require_apart(opened)
    return (frames, *(max(axis) for axis in zip(*corners, strict=True)))


def _require_apart(opened: Sequence[Opened]) -> None:
    for k, one in enumerate(opened):
        for other in opened[:k]:
            if all(
                a < b + m and b < a + n
                for a, n, b, m in zip(
                    one.source.at, one.shape[1:], other.source.at, other.shape[1:], strict=True
                )
            ):
                raise InvalidError(
                    f"the tiles of {display.printable(other.source.path)} and "
                    f"{display.printable(one.source.path)} overlap"
                )


def _twice(numbers: npt.NDArray[Any]) -> int | None:
    values, counts = np.unique(numbers, return_counts=True)
    repeated = values[counts > 1]
    return int(repeated[0]) if len(repeated) else None
