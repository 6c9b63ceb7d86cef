"""What a virtual dataset shows: as much as all sources have, and whether any of it is made up."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from datamgr import display
from datamgr.errors import InvalidError, NotFoundError
from hdf5_tools import append

POLL_S = 0.2


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a dataset. `source`: the file it is about, or None."""

    dataset: str
    source: str | None
    what: str


@dataclass(frozen=True)
class Verified:
    """What was looked at. No findings: every element comes from a source that can be read."""

    datasets: int
    sources: int
    findings: tuple[Finding, ...]


def open_complete(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset with as many frames as all its sources have, not as any of them has.

    HDF5's own view ends with the longest source and shows fill values for the others; so does this
    one after a `refresh`, for which there is `follow`.
    """
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_virtual_view(h5py.h5d.VDS_FIRST_MISSING)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def verify(path: Path) -> Verified:
    """Look at every virtual dataset of a file, and at every source of each.

    A source must exist, hold the dataset, with the type and at least the extent that the mapping
    takes, and its first and last element must be readable. Elements that no mapping fills, or only
    one that has no frames yet, are findings too: HDF5 shows the fill value there and no error.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is no HDF5 file, or has no virtual dataset.
    """
    findings: list[Finding] = []
    sources: set[str] = set()
    with _opened(path) as file:
        names = virtual_names(file)
        if not names:
            raise InvalidError(f"{display.printable(path)} has no virtual dataset")
        for name in names:
            dataset = file[name]
            filled = 0
            for number in range(dataset.id.get_create_plist().get_virtual_count()):
                mapping = _Mapping.of(dataset, number)
                sources.add(mapping.file)
                filled += mapping.elements
                findings += [
                    Finding(name, mapping.file, what) for what in _wrong(mapping, path, dataset)
                ]
            missing = dataset.size - filled
            if missing > 0:
                of = f"{missing} of {dataset.size} elements have no source"
                findings.append(Finding(name, None, f"{of} and read as {dataset.fillvalue}"))
    return Verified(len(names), len(sources), tuple(findings))


def follow(
    path: Path, name: str | None = None, *, poll_s: float = POLL_S, patience_s: float | None = None
) -> Iterator[tuple[h5py.Dataset, int]]:
    """The dataset and its number of complete frames, each time that there are more.

    Sources may be written meanwhile (by SWMR). Frames below the number are complete in all
    sources: where a source publishes how many of its frames count, as those of `append` do, no
    frame beyond it is. `patience_s`: end after so long without a new frame; never if None.

    Raises:
        NotFoundError, InvalidError: as by `verify`, or no such dataset.
    """
    with _opened(path) as file:
        names = virtual_names(file)
        if name is None and len(names) != 1:
            raise InvalidError(
                f"{display.printable(path)} has {len(names)} virtual datasets; name one"
            )
        if name is not None and name not in names:
            raise NotFoundError(f"{display.printable(path)} has no virtual dataset {name}")
        dataset = file[name or names[0]]
        counted = _Counted(path, dataset)
        seen, heard_s = 0, time.monotonic()
        while True:
            dataset.refresh()
            # Counted here: after a refresh HDF5 shows as much as the longest source has.
            frames = min(int(dataset.shape[0]), counted.frames())
            if frames > seen:
                seen, heard_s = frames, time.monotonic()
                yield dataset, frames
            elif patience_s is not None and time.monotonic() - heard_s >= patience_s:
                return
            else:
                time.sleep(poll_s)


def virtual_names(file: h5py.File) -> list[str]:
    """Where the virtual datasets of a file are."""
    found: list[str] = []

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and node.is_virtual:
            found.append(name)

    file.visititems(visit)
    return found


@dataclass(frozen=True)
class _Mapping:
    """One source of a virtual dataset. `reach`: the extent that it needs, None where unlimited."""

    file: str
    dataset: str
    elements: int
    reach: tuple[int | None, ...]
    interleave: tuple[int, int] | None  # first frame and stride, where there is no end

    @classmethod
    def of(cls, dataset: h5py.Dataset, number: int) -> "_Mapping":
        properties = dataset.id.get_create_plist()
        space = properties.get_virtual_srcspace(number)
        target = properties.get_virtual_vspace(number)
        unlimited = _is_unlimited(target)
        if unlimited:
            start, stride, _, _ = target.get_regular_hyperslab()
            reach = [None, *space.shape[1:]]
            step = int(stride[0])
            count = max(0, -(-(dataset.shape[0] - int(start[0])) // step))
            per_frame = int(np.prod(target.get_regular_hyperslab()[3][1:], dtype=np.int64))
            per_frame *= int(np.prod(target.get_regular_hyperslab()[2][1:], dtype=np.int64))
            elements, interleave = count * per_frame, (int(start[0]), step)
        else:
            _, end = space.get_select_bounds()
            reach, elements = [int(x) + 1 for x in end], target.get_select_npoints()
            interleave = None
        return cls(
            properties.get_virtual_filename(number),
            properties.get_virtual_dsetname(number),
            int(elements),
            tuple(reach),
            interleave,
        )

    def place(self, virtual: Path) -> Path:
        """The source's file; `.` is the virtual file itself."""
        return virtual if self.file == "." else Path(os.path.join(virtual.parent, self.file))


def _is_unlimited(space: h5py.h5s.SpaceID) -> bool:
    return space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and (
        space.is_regular_hyperslab()
        and h5py.h5s.UNLIMITED
        in (space.get_regular_hyperslab()[2][0], space.get_regular_hyperslab()[3][0])
    )


def _wrong(mapping: _Mapping, virtual: Path, dataset: h5py.Dataset) -> Iterator[str]:
    place = mapping.place(virtual)
    if not place.exists():
        yield f"the file is missing; its part reads as {dataset.fillvalue}"
        return
    try:
        with h5py.File(place, "r", swmr=True) as file:
            source = file.get(mapping.dataset)
            if not isinstance(source, h5py.Dataset):
                yield f"has no dataset {mapping.dataset}; its part reads as {dataset.fillvalue}"
                return
            if source.dtype != dataset.dtype:
                yield f"has the type {source.dtype}, not {dataset.dtype}"
            if len(source.shape) != len(mapping.reach) or any(
                have < need
                for have, need in zip(source.shape, mapping.reach, strict=True)
                if need is not None
            ):
                yield f"has the shape {source.shape}, and {mapping.reach} is mapped"
            elif mapping.interleave is not None:
                first, step = mapping.interleave
                need = max(0, -(-(dataset.shape[0] - first) // step))
                if source.shape[0] < need:
                    yield f"has {source.shape[0]} frames where others have {need}"
            if source.size:
                source[(0,) * source.ndim]
                source[tuple(n - 1 for n in source.shape)]
    except (OSError, RuntimeError) as error:
        yield f"cannot be read: {error}"


class _Counted:
    """How many virtual frames the sources have, by their counters where they have one."""

    def __init__(self, virtual: Path, dataset: h5py.Dataset) -> None:
        self._virtual = virtual
        self._mappings = [
            _Mapping.of(dataset, k)
            for k in range(dataset.id.get_create_plist().get_virtual_count())
        ]

    def frames(self) -> int:
        least: int = np.iinfo(np.int64).max
        for mapping in self._mappings:
            if mapping.interleave is None:
                continue
            first, step = mapping.interleave
            try:
                with h5py.File(mapping.place(self._virtual), "r", swmr=True) as file:
                    have = append.frames_written(file[mapping.dataset])
                    least = min(least, first + have * step)
            except (OSError, KeyError):
                return 0  # not there yet
        return least


def _opened(path: Path) -> h5py.File:
    shown = display.printable(path)
    if not path.exists():
        raise NotFoundError(f"there is no file {shown}")
    try:
        return h5py.File(path, "r", swmr=True)
    except OSError as error:
        raise InvalidError(f"{shown} cannot be read as HDF5: {error}") from error
