"""Sources of virtual datasets: where they are, and what they are like."""

import os
import resource
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from datamgr import display
from datamgr.errors import ForbiddenError, InvalidError, NotFoundError
from hdf5_tools import append

MOST = (1 << 63) - 1  # elements that HDF5 counts


@dataclass(frozen=True)
class Source:
    """A dataset in a file. `at`: where its frames begin in the tiled frame, in elements."""

    path: Path
    dataset: str
    at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What a source is like. `ids`: the numbers of its frames, where it has some."""

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
                isinstance(x, int) and not isinstance(x, bool) and 0 <= x < MOST for x in at
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


def open_source(
    source: Source, frame_ids: str | None, growing: bool, types: list[h5py.Datatype]
) -> Opened:
    """What a source is like; `types` are those that others have.

    `frame_ids`: the dataset that numbers its frames. `growing`: it is still written.

    Raises:
        NotFoundError, ForbiddenError, InvalidError: it is missing, or cannot be used.
    """
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
            return Opened(source, shape, _shared(node, types), ids)
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
        NotFoundError, ForbiddenError, InvalidError: there is none, it cannot be reached or read, or
            it is something else.
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
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise ForbiddenError(f"the {what} {shown} cannot be read: {error.strerror}") from error


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


def files_at_once() -> int:
    """How many sources a process with the limits of this one can have open, about.

    HDF5 opens all that a reader touches, and shows fill values for those that it cannot.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50


def first_line(error: BaseException) -> str:
    """What HDF5 says at once; it goes on for lines."""
    return (str(error).splitlines() or [type(error).__name__])[0]
