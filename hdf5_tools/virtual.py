"""Virtual datasets: many files as one array, that says so when a part of it is missing.

Sources are named relative to the virtual file, so that both may move together. What no source
fills reads as a value that no detector gives.
"""

import os
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from datamgr import display
from datamgr.errors import ConflictError, InvalidError, NotFoundError


class How(StrEnum):
    """How sources become one array of frames (elements along the first axis)."""

    STACK = "stack"  # a new first axis, one source each
    CONCATENATE = "concatenate"  # one after the other
    INTERLEAVE = "interleave"  # frame i of source k of n is frame i n + k
    TILE = "tile"  # side by side, each at its place


@dataclass(frozen=True)
class Source:
    """A dataset in a file. `at`: where its frames begin in the tiled frame, in elements."""

    path: Path
    dataset: str
    at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """What of one source goes where: `count` frames from `first`, to `to`, every `step`-th."""

    source: int
    first: int
    count: int
    to: int
    step: int = 1


@dataclass(frozen=True)
class Built:
    """What was made. `missing`: elements that no source fills."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sources: int
    missing: int


@dataclass(frozen=True)
class _Opened:
    source: Source
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ids: npt.NDArray[Any] | None


def read_layout(path: Path, dataset: str) -> list[Source]:
    """The sources of a layout file (TOML), for tiling.

    It has one `[[tile]]` for each source with `file`, relative to the layout file, `at`, a list
    of the first row, column, …, and, where it is not `dataset`, `dataset`.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is not such a file.
    """
    shown = display.printable(path)
    try:
        tiles = tomllib.loads(path.read_text()).get("tile", [])
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no layout file {shown}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidError(f"the layout file {shown} cannot be read: {error}") from error
    sources = []
    for number, tile in enumerate(tiles, 1):
        match tile:
            case {"file": str(name), "at": [*at]} if all(
                isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in at
            ):
                where = path.parent / name
                sources.append(Source(where, str(tile.get("dataset", dataset)), tuple(at)))
            case _:
                raise InvalidError(
                    f'tile {number} of {shown} needs file = "…" and at = [row, column]'
                )
    if not sources:
        raise InvalidError(f"the layout file {shown} has no [[tile]]")
    return sources


def build(
    out: Path,
    sources: Sequence[Source],
    how: How,
    *,
    name: str | None = None,
    frame_ids: str | None = None,
    fill: float | None = None,
    growing: bool = False,
) -> Built:
    """Write the file `out` with one virtual dataset.

    `name`: what it is called; as in the first source unless said. `frame_ids`: the dataset in each
    source that numbers its frames; frames then go where their number says, and numbers that a
    source lacks stay empty. `fill`: what reads there; NaN, or the largest integer, unless said.
    `growing`: sources that are still written; the mapping has no end. The file appears whole or
    not at all.

    Raises:
        NotFoundError: a source, or the dataset in it, is missing.
        InvalidError: the sources do not fit together.
        ConflictError: `out` exists.
    """
    if not sources:
        raise InvalidError("a virtual dataset needs at least one source")
    if out.exists():
        raise ConflictError(f"{display.printable(out)} exists; remove it first")
    opened = [_open(source, frame_ids, growing) for source in sources]
    _require_alike(opened, how)
    if growing and (how == How.STACK or frame_ids is not None or how == How.CONCATENATE):
        raise InvalidError("sources that grow can be interleaved or tiled, without frame numbers")
    frames, parts = _arranged(opened, how)
    shape = _shape(opened, how, frames)
    dtype = opened[0].dtype
    layout = h5py.VirtualLayout(shape, dtype, maxshape=(None, *shape[1:]) if growing else None)
    names = [_relative(found.source.path, out) for found in opened]
    covered = 0
    for part in parts:
        found = opened[part.source]
        source = h5py.VirtualSource(
            names[part.source],
            found.source.dataset,
            found.shape,
            dtype,
            maxshape=(None, *found.shape[1:]) if growing else None,
        )
        covered += _map(layout, source, found, part, how, growing)
    missing = 0 if growing else int(np.prod(shape, dtype=np.int64)) - covered
    value = _impossible(dtype) if fill is None else fill
    with tempfile.TemporaryDirectory(prefix=".virtual-", dir=out.parent) as folder:
        # In a directory beside: relative names are looked up from where the file is.
        written = Path(folder) / "new.h5"
        with h5py.File(written, "w", libver="latest") as file:
            file.create_virtual_dataset(name or opened[0].source.dataset, layout, fillvalue=value)
        try:
            os.link(written, out)
        except FileExistsError as error:
            raise ConflictError(f"{display.printable(out)} exists; remove it first") from error
    return Built(shape, dtype, len(sources), missing)


def _open(source: Source, frame_ids: str | None, growing: bool) -> _Opened:
    shown = display.printable(source.path)
    if not source.path.exists():
        raise NotFoundError(f"there is no source {shown}")
    try:
        with h5py.File(source.path, "r", swmr=True) as file:
            node = file.get(source.dataset)
            if not isinstance(node, h5py.Dataset):
                raise NotFoundError(f"{shown} has no dataset {source.dataset}")
            ids = None
            if frame_ids is not None:
                numbers = file.get(frame_ids)
                if not isinstance(numbers, h5py.Dataset) or numbers.ndim != 1:
                    raise NotFoundError(f"{shown} has no list of frame numbers {frame_ids}")
                ids = numbers[()]
            shape = tuple(node.shape)
            if growing and shape:
                # A mapping without end over nothing is taken by HDF5 for one that stays empty.
                shape = (max(1, shape[0]), *shape[1:])
            return _Opened(source, shape, node.dtype, ids)
    except OSError as error:
        raise InvalidError(f"{shown} cannot be read as HDF5: {error}") from error


def _require_alike(opened: Sequence[_Opened], how: How) -> None:
    first = opened[0]
    for found in opened:
        shown = f"{found.source.dataset} of {display.printable(found.source.path)}"
        if found.dtype != first.dtype:
            raise InvalidError(f"{shown} has the type {found.dtype}, the first {first.dtype}")
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
            if len(np.unique(found.ids[: found.shape[0]])) < found.shape[0]:
                raise InvalidError(f"{shown} has two frames of one number")


def _arranged(opened: Sequence[_Opened], how: How) -> tuple[int, list[Part]]:
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


def _aligned(opened: Sequence[_Opened], how: How) -> tuple[int, list[Part]]:
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
        every = np.concatenate(present)
        if len(np.unique(every)) < len(every):
            raise InvalidError("two sources have a frame of one number; only tiles may")
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


def _shape(opened: Sequence[_Opened], how: How, frames: int) -> tuple[int, ...]:
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


def _require_apart(opened: Sequence[_Opened]) -> None:
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


def _map(layout: Any, source: Any, found: _Opened, part: Part, how: How, growing: bool) -> int:
    """Add one part to the layout; how many elements it fills."""
    if part.count == 0 and not growing:
        return 0
    frame = found.shape[1:]
    taken = h5py.h5s.UNLIMITED if growing else part.first + part.count
    if how == How.STACK:
        layout[part.to] = source
    elif how == How.TILE:
        where = tuple(slice(a, a + n) for a, n in zip(found.source.at, frame, strict=True))
        end = h5py.h5s.UNLIMITED if growing else part.to + part.count
        layout[(slice(part.to, end), *where)] = source[part.first : taken]
    else:
        end = h5py.h5s.UNLIMITED if growing else part.to + (part.count - 1) * part.step + 1
        layout[part.to : end : part.step] = source[part.first : taken]
    return part.count * int(np.prod(frame, dtype=np.int64))


def _relative(source: Path, out: Path) -> str:
    name = os.path.relpath(source.resolve(), out.parent.resolve())
    # Without a directory HDF5 would look beside the process first, not beside the file.
    return os.path.join(os.curdir, name) if os.sep not in name else name


def _impossible(dtype: np.dtype[Any]) -> Any:
    """A value that stands for "no source": NaN, the largest unsigned, the smallest signed."""
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.max if dtype.kind == "u" else limits.min
    return None
