"""Virtual datasets: many files as one array, that says so when a part of it is missing.

Sources are named relative to the virtual file, so that both may move together. What no source
fills reads as a value that no detector gives.
"""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datamgr import display
from datamgr.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from hdf5_tools import virtual_arrangement, virtual_fill, virtual_sources
from hdf5_tools.virtual_arrangement import How, Part
from hdf5_tools.virtual_sources import Opened, Source, first_line


@dataclass(frozen=True)
class Built:
    """What was made. `missing`: elements that no source fills."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sources: int
    missing: int


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
    source lacks stay empty. `fill`: what reads there; NaN, or an extreme integer, unless said.
    `growing`: sources that are still written; the mapping has no end. The file appears whole or
    not at all.

    Raises:
        NotFoundError: a source, the dataset in it, or the directory of `out` is missing.
        InvalidError: the sources do not fit together, or the type has no such fill value.
        ForbiddenError: a source may not be read, or `out` not be written.
        UnavailableError: there is no space left for `out`.
        ConflictError: `out` exists.
    """
    if not sources:
        raise InvalidError("a virtual dataset needs at least one source")
    name = sources[0].dataset if name is None else name
    _require_name(name)
    if os.path.lexists(out):
        raise ConflictError(f"{display.printable(out)} exists; remove it first")
    types: list[h5py.Datatype] = []
    opened = [virtual_sources.open_source(source, frame_ids, growing, types) for source in sources]
    virtual_arrangement.require_alike(opened, how)
    if growing and (how == How.STACK or frame_ids is not None or how == How.CONCATENATE):
        raise InvalidError("sources that grow can be interleaved or tiled, without frame numbers")
    frames, parts = virtual_arrangement.arranged(opened, how)
    shape = virtual_arrangement.shape(opened, how, frames)
    dtype = opened[0].dtype
    value = virtual_fill.impossible(dtype) if fill is None else virtual_fill.fitting(fill, dtype)
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
    missing = 0 if growing else prod(shape) - covered
    with _explained(out):
        _write(out, name, layout, value)
    return Built(shape, dtype, len(sources), missing)


def escaped(name: str) -> str:
    """A source's name as HDF5 is to be told it: a percent sign alone would begin a pattern.

    Source: HDF5 reference, H5Pset_virtual.
    """
    return name.replace("%", "%%")


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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = os.strerror(error.errno)
            raise UnavailableError(f"{shown} cannot be written: {reason}") from error
        raise InvalidError(f"{shown} cannot be written: {first_line(error)}") from error


def _require_name(name: str) -> None:
    parts = name.removeprefix("/").split("/")
    if not all(parts) or any(part in (".", "..") for part in parts) or "\0" in name:
        raise InvalidError(f"{name!r} is no name of a dataset; one is like entry/data")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"{name!r} is no name of a dataset: it is not UTF-8") from error


def _map(layout: Any, source: Any, found: Opened, part: Part, how: How, growing: bool) -> int:
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
