"""Virtual datasets: many files as one array, that says so when a part of it is missing.

Sources are named relative to the virtual file, so that both may move together. What no source
fills reads as a value that no detector gives.
"""

import os
import resource
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from datamgr import display
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from hdf5_tools import append

_MOST = (1 << 63) - 1  # elements that HDF5 counts


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
    type: h5py.Datatype
    ids: npt.NDArray[Any] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """What numpy makes of the type, which tells less apart."""
        dtype: np.dtype[Any] = self.type.dtype
        return dtype

    @property
    def shown(self) -> str:
        """How messages call it."""
        return f"{self.source.dataset} of {display.printable(self.source.path)}"


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
        read = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no layout file {shown}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidError(f"the layout file {shown} cannot be read: {error}") from error
    tiles = read.pop("tile", [])
    if read:
        raise InvalidError(f"the layout file {shown} has {next(iter(read))!r} beside its [[tile]]")
    if not isinstance(tiles, list) or not tiles:
        raise InvalidError(f"the layout file {shown} has no [[tile]]")
    sources = []
    for number, tile in enumerate(tiles, 1):
        match tile:
            case {"file": str(name), "at": [*at], **rest} if all(
                isinstance(x, int) and not isinstance(x, bool) and 0 <= x < _MOST for x in at
            ):
                chosen = rest.pop("dataset", dataset)
                if rest or not isinstance(chosen, str):
                    odd = next(iter(rest), "dataset")
                    raise InvalidError(
                        f"tile {number} of {shown} has {odd!r}; there are file, at and dataset"
                    )
                sources.append(Source(path.parent / name, chosen, tuple(at)))
            case _:
                raise InvalidError(
                    f'tile {number} of {shown} needs file = "…" and at = [row, column]'
                )
    return sources


def build(
    out: Path,
    sources: Sequence[Source],
    how: How,
    *,
    name: str | None = None,
    frame_ids: str | None = None,
    fill: complex | None = None,
    growing: bool = False,
) -> Built:
    """Write the file `out` with one virtual dataset.

    `name`: what it is called; as in the first source unless said. `frame_ids`: the dataset in each
    source that numbers its frames; frames then go where their number says, and numbers that a
    source lacks stay empty. `fill`: what reads there; NaN, or the largest integer, unless said.
    `growing`: sources that are still written; the mapping has no end. The file appears whole or
    not at all.

    Raises:
        NotFoundError: a source, the dataset in it, or the directory of `out` is missing.
        InvalidError: the sources do not fit together, or the type has no such fill value.
        ForbiddenError: a source may not be read, or `out` not be written.
        ConflictError: `out` exists.
    """
    if not sources:
        raise InvalidError("a virtual dataset needs at least one source")
    name = sources[0].dataset if name is None else name
    _require_name(name)
    if os.path.lexists(out):
        raise ConflictError(f"{display.printable(out)} exists; remove it first")
    types: list[h5py.Datatype] = []
    opened = [_open(source, frame_ids, growing, types) for source in sources]
    _require_alike(opened, how)
    if growing and (how == How.STACK or frame_ids is not None or how == How.CONCATENATE):
        raise InvalidError("sources that grow can be interleaved or tiled, without frame numbers")
    frames, parts = _arranged(opened, how)
    shape = _shape(opened, how, frames)
    dtype = opened[0].dtype
    value = _impossible(dtype) if fill is None else _fitting(fill, dtype)
    # With the type as it is in the file: numpy's forgets what texts and enumerations are like.
    layout = h5py.VirtualLayout(
        shape, opened[0].type, maxshape=(None, *shape[1:]) if growing else None
    )
    names = [_relative(found.source.path, out) for found in opened]
    covered = 0
    for part in parts:
        found = opened[part.source]
        source = h5py.VirtualSource(
            escaped(names[part.source]),
            escaped(found.source.dataset),
            found.shape,
            dtype,
            maxshape=(None, *found.shape[1:]) if growing else None,
        )
        covered += _map(layout, source, found, part, how, growing)
    missing = 0 if growing else _elements(shape) - covered
    with _explained(out):
        _write(out, name, layout, value)
    return Built(shape, dtype, len(sources), missing)


def escaped(name: str) -> str:
    """A source's name as HDF5 is to be told it: a percent sign alone would begin a pattern.

    Source: HDF5 reference, H5Pset_virtual.
    """
    return name.replace("%", "%%")


def files_at_once() -> int:
    """How many sources a process with the limits of this one can have open, about.

    HDF5 opens all that a reader touches, and shows fill values for those that it cannot.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50


def _write(out: Path, name: str, layout: Any, value: Any) -> None:
    with tempfile.TemporaryDirectory(prefix=".virtual-", dir=out.parent) as folder:
        # In a directory beside: relative names are looked up from where the file is.
        written = Path(folder) / "new.h5"
        with h5py.File(written, "w", libver="latest") as file:
            file.create_virtual_dataset(name, layout, fillvalue=value)
        try:
            os.link(written, out)
        except FileExistsError as error:
            raise ConflictError(f"{display.printable(out)} exists; remove it first") from error


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Say why a file cannot be written."""
    shown = display.printable(out)
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no directory {display.printable(out.parent)}") from error
    except PermissionError as error:
        raise ForbiddenError(f"{shown} may not be written: {error.strerror}") from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidError(f"{shown} cannot be written: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What HDF5 says at once; it goes on for lines."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _require_name(name: str) -> None:
    parts = name.removeprefix("/").split("/")
    if not all(parts) or any(part in (".", "..") for part in parts) or "\0" in name:
        raise InvalidError(f"{name!r} is no name of a dataset; one is like entry/data")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"{name!r} is no name of a dataset: it is not UTF-8") from error


def _elements(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _open(
    source: Source, frame_ids: str | None, growing: bool, types: list[h5py.Datatype]
) -> _Opened:
    """What a source is like; `types` are those that others have."""
    shown = display.printable(source.path)
    require_file(source.path, "source")
    try:
        with h5py.File(source.path, "r", swmr=True) as file:
            node = file.get(source.dataset)
            if not isinstance(node, h5py.Dataset):
                raise NotFoundError(f"{shown} has no dataset {source.dataset}")
            if node.shape is None:
                raise InvalidError(f"{source.dataset} of {shown} has no elements at all")
            ids = None
            if frame_ids is not None:
                numbers = file.get(frame_ids)
                if not isinstance(numbers, h5py.Dataset) or numbers.ndim != 1:
                    raise NotFoundError(f"{shown} has no list of frame numbers {frame_ids}")
                ids = numbers[()]
            shape = tuple(node.shape)
            if shape and growing:
                # A mapping without end over nothing is taken by HDF5 for one that stays empty.
                shape = (max(1, shape[0]), *shape[1:])
            elif shape:
                # The extent may be ahead of the frames that count.
                shape = (min(shape[0], append.frames_written(node)), *shape[1:])
            return _Opened(source, shape, _shared(node, types), ids)
    except (OSError, RuntimeError, KeyError) as error:
        raise InvalidError(f"{shown} cannot be read as HDF5: {first_line(error)}") from error


def _shared(node: h5py.Dataset, types: list[h5py.Datatype]) -> h5py.Datatype:
    """The type of a dataset, once for all that have it: HDF5 looks at each as it closes a file."""
    own = h5py.Datatype(node.id.get_type())
    for known in types:
        if is_same_type(known, own):
            return known
    types.append(h5py.Datatype(own.id.copy()))
    return types[-1]


def require_file(path: Path, what: str) -> None:
    """Be sure that there is a regular file: opening a pipe would wait for ever.

    Raises:
        NotFoundError, ForbiddenError, InvalidError: there is none, it cannot be reached, or it is
            something else.
    """
    shown = display.printable(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no {what} {shown}") from error
    except OSError as error:
        raise ForbiddenError(f"the {what} {shown} cannot be reached: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidError(f"the {what} {shown} is no regular file")


def _require_alike(opened: Sequence[_Opened], how: How) -> None:
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
            if found.shape[0] and int(found.ids[: found.shape[0]].max()) > _MOST:
                raise InvalidError(f"the frame numbers of {shown} go beyond {_MOST}")
            twice = _twice(found.ids[: found.shape[0]])
            if twice is not None:
                raise InvalidError(f"{shown} has two frames of the number {twice}")


def is_same_type(one: h5py.Datatype, other: h5py.Datatype) -> bool:
    """Whether the bytes of one mean the same in the other; numpy takes texts for lists."""
    if not one.id.equal(other.id):
        return False
    # Of texts of any length HDF5 takes two character sets for equal, and cannot read one as other.
    is_text = isinstance(one.id, h5py.h5t.TypeStringID)
    return not is_text or bool(one.id.get_cset() == other.id.get_cset())


def type_of(found: h5py.Datatype) -> str:
    """What messages call a type; its class too, where numpy takes several for one object."""
    if isinstance(found.id, h5py.h5t.TypeStringID):
        return "text in " + ("UTF-8" if found.id.get_cset() == h5py.h5t.CSET_UTF8 else "ASCII")
    kind = type(found.id).__name__.removeprefix("Type").removesuffix("ID").lower()
    return f"{found.dtype}" if found.dtype.kind != "O" else f"{found.dtype} ({kind})"


def _twice(numbers: npt.NDArray[Any]) -> int | None:
    values, counts = np.unique(numbers, return_counts=True)
    repeated = values[counts > 1]
    return int(repeated[0]) if len(repeated) else None


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


def _shape(opened: Sequence[_Opened], how: How, frames: int) -> tuple[int, ...]:
    shape = _extent(opened, how, frames)
    if _elements(shape) > _MOST or max(shape) > _MOST:
        raise InvalidError(f"it would have the shape {shape}, which is more than HDF5 counts")
    return shape


def _extent(opened: Sequence[_Opened], how: How, frames: int) -> tuple[int, ...]:
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
    """A value that stands for "no source": NaN, the largest unsigned, the smallest signed.

    Other types have none, and show what HDF5 shows: zeros, or texts of no characters.
    """
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.max if dtype.kind == "u" else limits.min
    return None


def _fitting(value: complex, dtype: np.dtype[Any]) -> Any:
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
