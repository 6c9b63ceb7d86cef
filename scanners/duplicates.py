"""Which files are there more than once, and what would all copies but one free?

Files of one size and one name are candidates; links of one inode are one file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from datamgr.config import Settings
from scanners import find, scratch
from scanners.find import Question
from scanners.places import Place

_COLUMNS = ("path", "size_bytes", "alloc_bytes", "mtime_s", "ino", "dev", "scan_id")
_SCHEMA = pa.schema([*(find.SCHEMA.field(name) for name in _COLUMNS), ("name", pa.binary())])

# One row an inode and name, at its smallest path. Without an inode number each path is one.
_INODES = """
CREATE TABLE inode AS
SELECT name, size_bytes, min(path) AS path, max(alloc_bytes) AS alloc_bytes,
    max(mtime_s) AS mtime_s, ino, dev, scan_id
FROM found
GROUP BY name, size_bytes, scan_id, dev, ino, CASE WHEN ino = 0 THEN path END
"""

_GROUPS = """
WITH candidate AS (
    SELECT name, size_bytes, sum(alloc_bytes) - max(alloc_bytes) AS reclaimable_bytes
    FROM inode GROUP BY name, size_bytes HAVING count(*) > 1
    ORDER BY reclaimable_bytes DESC, size_bytes DESC, name LIMIT {limit}
)
SELECT i.name, i.size_bytes, i.path, i.alloc_bytes, i.mtime_s, i.ino, i.dev, i.scan_id
FROM candidate c JOIN inode i USING (name, size_bytes)
ORDER BY c.reclaimable_bytes DESC, size_bytes DESC, name, path
"""


@dataclass(frozen=True)
class Copy:
    """One of several files, as a scan saw it; `dev` is None if a list gave another number."""

    path: bytes
    alloc_bytes: int
    mtime_s: int
    ino: int
    dev: int | None


@dataclass(frozen=True)
class Group:
    """Files of one size and name; `content` is their common BLAKE2b in hex if they were read."""

    name: bytes
    size_bytes: int
    copies: tuple[Copy, ...]
    content: str | None = None

    @property
    def reclaimable_bytes(self) -> int:
        """The space on disk that removing all copies but one frees at least."""
        taken = [copy.alloc_bytes for copy in self.copies]
        return sum(taken) - max(taken)

    def of(self, copies: Sequence[Copy], content: str | None = None) -> "Group":
        """Some of the copies, which turned out to be equal."""
        return replace(self, copies=tuple(copies), content=content)


def candidates(
    settings: Settings, places: Sequence[Place], larger_than_bytes: int, limit: int
) -> list[Group]:
    """The `limit` groups with the most to reclaim, that first; their contents may differ.

    Raises:
        UnavailableError: a scan's files are gone or damaged; out of scratch space.
    """
    question = Question(larger_than_bytes=larger_than_bytes, kinds=frozenset("f"))
    stream = scratch.Stream(_named(find.search(places, question, _COLUMNS)))
    walked = {place.scan_id for place in places if place.source == "walk"}
    with scratch.opened(settings) as connection, stream.checked():
        connection.register("found", stream.reader(_SCHEMA))
        connection.execute(_INODES)
        rows = connection.execute(_GROUPS.format(limit=int(limit))).fetchall()
    return [
        Group(
            name,
            size_bytes,
            tuple(
                Copy(path, alloc_bytes, mtime_s, ino, dev if scan_id in walked else None)
                for _, _, path, alloc_bytes, mtime_s, ino, dev, scan_id in members
            ),
        )
        for (name, size_bytes), members in groupby(rows, key=lambda row: row[:2])
    ]


def _named(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        names = pc.replace_substring_regex(batch["path"], r"(?s)\A.*/", "")
        yield batch.append_column("name", names)
