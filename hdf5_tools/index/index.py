"""An index, opened to be searched: `Index.open(folder).search('sample = "MgFe*"')`."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hdf5_tools.harvest.records import Form, Kind, Value
from hdf5_tools.index import container, evaluate, manifest, query
from hdf5_tools.index.segment import Segment

_TRIES = 10


@dataclass(frozen=True)
class Hit:
    """An object that was found; in a search for files, its `path` is `/`."""

    file: bytes
    path: bytes
    kind: Kind
    form: Form
    attributes: dict[bytes, tuple[Value, ...] | None]


@dataclass(frozen=True)
class NameSummary:
    """An attribute's name in the whole index. `texts`: how many different ones it has."""

    name: bytes
    attributes: int
    smallest: float | None
    largest: float | None
    texts: int
    example: bytes | None


class Hits:
    """What was found. Its objects are numbers until they are looked at."""

    def __init__(self, found: list[tuple[Segment, npt.NDArray[Any]]]) -> None:
        self._found = found

    def __len__(self) -> int:
        return sum(len(members) for _, members in self._found)

    def paths(self) -> list[tuple[bytes, bytes]]:
        """File and object path of each, in the order of the index."""
        found: list[tuple[bytes, bytes]] = []
        for segment, members in self._found:
            found += segment.paths_of(members)
        return found

    def rows(
        self, attributes: tuple[bytes, ...] = (), limit: int | None = None, skip: int = 0
    ) -> Iterator[Hit]:
        """Each with the attributes that are named; `limit` of them after the first `skip`."""
        left = len(self) if limit is None else limit
        for segment, members in self._found:
            chosen = members[skip : skip + left]
            skip = max(0, skip - len(members))
            places = segment.paths_of(chosen)
            for number, (file, path) in zip(chosen.tolist(), places, strict=True):
                yield Hit(
                    file,
                    path,
                    Kind(segment.arrays["object_kind"][number]),
                    segment.form_of(number),
                    {name: segment.values_of(number, name) for name in attributes},
                )
            left -= len(chosen)

    def table(self) -> pa.Table:
        """The paths as an Arrow table, `file` and `path`; `.to_pandas()` gives a frame."""
        paths = self.paths()
        return pa.table(
            {
                "file": pa.array([file for file, _ in paths], pa.large_binary()),
                "path": pa.array([path for _, path in paths], pa.large_binary()),
            }
        )


class Index:
    """The segments of an index at one moment; what changes later is seen by opening it again."""

    def __init__(self, segments: list[Segment]) -> None:
        self.segments = segments

    @classmethod
    def open(cls, folder: Path) -> "Index":
        """Map an index.

        Raises:
            NotFoundError: there is none.
            InvalidError: it is damaged, or of another format.
            ForbiddenError: this account may not read it.
        """
        for attempt in range(_TRIES):
            listed = manifest.load(folder)
            try:
                return cls([Segment.of(folder, entry) for entry in listed.entries])
            except FileNotFoundError as error:
                if attempt == _TRIES - 1:
                    raise container.damaged(Path(error.filename), "is missing") from error
        raise AssertionError

    def search(self, text: str, *, by_file: bool = False) -> Hits:
        """What a query means: objects, or files whose objects fulfil it together.

        Raises:
            InvalidError: the query cannot be understood.
        """
        node, found = query.parse(text), []
        for segment in self.segments:
            if by_file:
                roots = np.flatnonzero(np.diff(segment.arrays["object_file"], prepend=-1))
                of = segment.arrays["object_file"][roots]
                members = roots[np.isin(of, evaluate.files(segment, node))]
            else:
                members = evaluate.objects(segment, node)
            if len(members):
                found.append((segment, members))
        return Hits(found)

    def failures(self) -> Iterator[tuple[bytes, bytes]]:
        """The files that could not be read, and why."""
        for segment in self.segments:
            failed = segment.arrays["file_failed"] & segment.files_alive
            for number in np.flatnonzero(failed).tolist():
                yield segment.files[number], segment.reasons[number]

    def totals(self) -> Counter[str]:
        """How many files, failed files and objects there are."""
        totals: Counter[str] = Counter(files=0, failed=0, objects=0)
        for segment in self.segments:
            alive = segment.files_alive
            totals["files"] += int(alive.sum())
            totals["failed"] += int((alive & segment.arrays["file_failed"]).sum())
            totals["objects"] += (
                segment.objects if segment.alive is None else int(segment.alive.sum())
            )
        return totals

    def names(self) -> list[NameSummary]:
        """Every attribute name with what is known of it.

        Ranges and texts may still be those of files that are gone, until the index is compacted.
        """
        found: dict[bytes, list[tuple[Segment, int]]] = {}
        for segment in self.segments:
            for number in range(len(segment.names)):
                found.setdefault(segment.names[number], []).append((segment, number))
        return [self._summary(name, found[name]) for name in sorted(found)]

    def _summary(self, name: bytes, parts: list[tuple[Segment, int]]) -> NameSummary:
        attributes, texts = 0, 0
        bounds: list[float] = []
        example = None
        for segment, number in parts:
            having = segment.having(number)
            alive = segment.alive
            attributes += len(having) if alive is None else int(alive[having].sum())
            low, high = segment.arrays["text_name_first"][number : number + 2].tolist()
            if high > low:
                texts += high - low
                example = example or segment.texts[low]
            for numbers in segment.numbers_of(number):
                values = numbers.values[: numbers.comparable]
                if len(values):
                    bounds += [values[0].item(), values[-1].item()]
        smallest, largest = (min(bounds), max(bounds)) if bounds else (None, None)
        return NameSummary(name, attributes, smallest, largest, texts, example)
