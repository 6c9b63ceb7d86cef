"""What a virtual dataset shows: as much as all sources have, and whether any of it is made up."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datamgr import display
from datamgr.errors import DatamgrError, InvalidError, NotFoundError
from hdf5_tools import append, virtual_sources
from hdf5_tools.virtual_sources import first_line, is_same_type, type_of

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
    takes, as many frames as its writer counts, and all of them written; its first and last element
    must be readable. If it is virtual itself, the same holds for its sources. Elements that no
    mapping fills, or only one that has no frames yet, are findings too: HDF5 shows the fill value
    there and no error. So it does if a process cannot open all sources at once.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is no HDF5 file, or has no virtual dataset.
    """
    findings: list[Finding] = []
    sources: set[str] = set()
    # Sources are looked for from where the file is, not from a link to it.
    path = Path(os.path.realpath(path))
    with _opened(path) as file:
        names = virtual_names(file)
        if not names:
            raise InvalidError(f"{display.printable(path)} has no virtual dataset")
        for name in names:
            _verify(_Virtual(path, file[name]), findings, sources, frozenset())
    at_once = virtual_sources.files_at_once()
    if len(sources) > at_once:
        findings.append(
            Finding(
                names[0],
                None,
                f"who reads all of it has {len(sources)} files open at once, and this process may "
                f"have {at_once}: raise `ulimit -n`, or the rest reads as fill",
            )
        )
    return Verified(len(names), len(sources), tuple(findings))


class PatternError(ValueError):
    """A source stands for many, by a number in its name, as some programs write it."""


class _Virtual:
    """A virtual dataset, with what HDF5 takes long to tell."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self.path, self.dataset = path, dataset
        self.properties = dataset.id.get_create_plist()
        self.fill = dataset.fillvalue

    @property
    def name(self) -> str:
        name: str = self.dataset.name.removeprefix("/")
        return name

    def mappings(self) -> Iterator["_Mapping"]:
        """Its sources. Raises UnicodeDecodeError for a name that is no UTF-8, and PatternError."""
        for number in range(self.properties.get_virtual_count()):
            yield _Mapping.of(self.dataset, self.properties, number)


def _verify(
    virtual_: _Virtual, findings: list[Finding], sources: set[str], above: frozenset[str]
) -> None:
    """Add what is wrong with a virtual dataset. `above`: the datasets whose source it is."""
    filled = 0
    here = f"{virtual_.path}:{virtual_.name}"
    try:
        for mapping in virtual_.mappings():
            sources.add(mapping.file)
            filled += mapping.elements
            found = _wrong(mapping, virtual_, findings, sources, above | {here})
            findings += [Finding(virtual_.name, mapping.file, what) for what in found]
    except UnicodeDecodeError:
        what = "a source has a name that is no UTF-8; it and those after it were not looked at"
        findings.append(Finding(virtual_.name, None, what))
        return
    except PatternError as pattern:
        what = "names its files by a pattern; it and those after it were not looked at"
        findings.append(Finding(virtual_.name, str(pattern), what))
        return
    missing = virtual_.dataset.size - filled
    if missing > 0:
        of = f"{missing} of {virtual_.dataset.size} elements have no source"
        findings.append(Finding(virtual_.name, None, f"{of} and read as {virtual_.fill}"))


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
    path = Path(os.path.realpath(path))
    with _opened(path) as file:
        names = virtual_names(file)
        if not names:
            raise InvalidError(f"{display.printable(path)} has no virtual dataset")
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
    """One source of a virtual dataset. `reach`: the extent that it needs, None where unlimited.

    No `reach`: all of the source, however large it is.
    """

    file: str
    dataset: str
    elements: int
    reach: tuple[int | None, ...] | None
    interleave: tuple[int, int] | None  # first frame and stride, where there is no end

    @classmethod
    def of(cls, dataset: h5py.Dataset, properties: Any, number: int) -> "_Mapping":
        told = properties.get_virtual_filename(number), properties.get_virtual_dsetname(number)
        file, name = (text.replace("%%", "%") for text in told)
        if any("%" in text.replace("%%", "") for text in told):
            raise PatternError(file)
        try:
            space = properties.get_virtual_srcspace(number)
            target = properties.get_virtual_vspace(number)
        except RuntimeError:
            # What HDF5 says of a selection of nothing.
            return cls(file, name, 0, None, None)
        if not _is_unlimited(target):
            elements = int(target.get_select_npoints())
            if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not elements:
                return cls(file, name, elements, None, None)
            reach = tuple(int(x) + 1 for x in space.get_select_bounds()[1])
            return cls(file, name, elements, reach, None)
        start, stride, count, block = target.get_regular_hyperslab()
        step = int(stride[0])
        frames = max(0, -(-(dataset.shape[0] - int(start[0])) // step))
        per_frame = int(np.prod(block[1:], dtype=np.int64))
        per_frame *= int(np.prod(count[1:], dtype=np.int64))
        return cls(file, name, frames * per_frame, (None, *space.shape[1:]), (int(start[0]), step))

    def place(self, virtual_: Path) -> Path:
        """The source's file; `.` is the virtual file itself."""
        return virtual_ if self.file == "." else Path(os.path.join(virtual_.parent, self.file))


def _is_unlimited(space: h5py.h5s.SpaceID) -> bool:
    return space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and (
        space.is_regular_hyperslab()
        and h5py.h5s.UNLIMITED
        in (space.get_regular_hyperslab()[2][0], space.get_regular_hyperslab()[3][0])
    )


def _wrong(
    mapping: _Mapping,
    of: _Virtual,
    findings: list[Finding],
    sources: set[str],
    above: frozenset[str],
) -> Iterator[str]:
    place = mapping.place(of.path)
    try:
        virtual_sources.require_file(place, "file")
    except NotFoundError:
        yield f"the file is missing; its part reads as {of.fill}"
        return
    except DatamgrError as error:
        yield f"{error}; its part reads as {of.fill}"
        return
    try:
        with h5py.File(place, "r", swmr=True) as file:
            source = file.get(mapping.dataset)
            if not isinstance(source, h5py.Dataset) or source.shape is None:
                yield f"has no dataset {mapping.dataset}; its part reads as {of.fill}"
                return
            have = h5py.Datatype(source.id.get_type())
            need = h5py.Datatype(of.dataset.id.get_type())
            if not is_same_type(have, need):
                yield f"has the type {type_of(have)}, not {type_of(need)}"
            yield from _too_short(mapping, source, of.dataset)
            if source.is_virtual:
                inner = _Virtual(Path(os.path.realpath(place)), source)
                if f"{inner.path}:{inner.name}" in above:
                    yield "is a source of itself"
                else:
                    _verify(inner, findings, sources, above)
                return
            yield from _unwritten(source)
            if source.size:
                source[(0,) * source.ndim]
                source[tuple(n - 1 for n in source.shape)]
    except (OSError, RuntimeError, KeyError) as error:
        yield f"cannot be read: {first_line(error)}"


def _too_short(mapping: _Mapping, source: h5py.Dataset, dataset: h5py.Dataset) -> Iterator[str]:
    """Whether it has less than is mapped; HDF5 shows the fill value for the rest."""
    if mapping.reach is None:
        if source.size < mapping.elements:
            yield f"has {source.size} elements, and {mapping.elements} are mapped"
        return
    if len(source.shape) != len(mapping.reach) or any(
        have < need
        for have, need in zip(source.shape, mapping.reach, strict=True)
        if need is not None
    ):
        yield f"has the shape {source.shape}, and {mapping.reach} is mapped"
        return
    if not source.shape:
        return
    counted = min(source.shape[0], append.frames_written(source))
    first, step = mapping.interleave or (0, 1)
    mapped = mapping.reach[0]
    if mapped is None:
        wanted = max(0, -(-(dataset.shape[0] - first) // step))
        if counted < wanted:
            yield f"has {counted} frames where others have {wanted}"
    elif counted < mapped:
        yield f"counts {counted} frames, and {mapped} are mapped"


def _unwritten(source: h5py.Dataset) -> Iterator[str]:
    """Whether it has places that were never written, which show its own fill value."""
    properties = source.id.get_create_plist()
    layout = properties.get_layout()
    if not source.size or properties.get_external_count():
        return
    if layout == h5py.h5d.CONTIGUOUS and source.id.get_offset() is None:
        yield f"was never written; it reads as {source.fillvalue}"
    elif layout == h5py.h5d.CHUNKED:
        frames = min(source.shape[0], append.frames_written(source))
        extent = (frames, *source.shape[1:])
        wanted = 1
        for length, chunk in zip(extent, source.chunks, strict=True):
            wanted *= -(-length // chunk)
        written = source.id.get_num_chunks()
        if written < wanted:
            what = f"{wanted - written} of its {wanted} chunks were never written"
            yield f"{what}; they read as {source.fillvalue}"


class _Counted:
    """How many virtual frames the sources have, by their counters where they have one."""

    def __init__(self, virtual_: Path, dataset: h5py.Dataset) -> None:
        self._virtual = virtual_
        try:
            every = list(_Virtual(virtual_, dataset).mappings())
        except (UnicodeDecodeError, PatternError) as error:
            raise InvalidError(f"a source of {dataset.name} cannot be followed: {error}") from error
        self._mappings = [mapping for mapping in every if mapping.interleave is not None]
        if not self._mappings:
            raise InvalidError(
                f"{dataset.name} of {display.printable(virtual_)} does not grow: build it with "
                "--growing to follow it; `verify` says whether all of it is there"
            )

    def frames(self) -> int:
        least: int = np.iinfo(np.int64).max
        for mapping in self._mappings:
            first, step = mapping.interleave or (0, 1)
            try:
                with h5py.File(mapping.place(self._virtual), "r", swmr=True) as file:
                    have = append.frames_written(file[mapping.dataset])
                    least = min(least, first + have * step)
            except (OSError, KeyError):
                return 0  # not there yet
        return least


def _opened(path: Path) -> h5py.File:
    virtual_sources.require_file(path, "file")
    try:
        return h5py.File(path, "r", swmr=True)
    except OSError as error:
        raise InvalidError(
            f"{display.printable(path)} cannot be read as HDF5: {first_line(error)}"
        ) from error
