"""The directories of a list: numbered, and completed by those that it leaves out.

Sorted by key (see `places`) every directory follows those above it, so that one stack of them
suffices, however many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamgr.errors import InvalidError
from scanners import access, parts, record
from scanners.importers import places
from scanners.importers.errors import REPEATED, Errors
from scanners.importers.source import ListSource
from scanners.paths import display_name

NOT_LISTED = "not in the list"
# The keys of all directories with their numbers, for joining.
NUMBERED = "numbered.parquet"
_NUMBERED = pa.schema([("key", pa.binary()), ("dir_id", pa.int64())])

_KEYS = "SELECT key FROM directories UNION ALL SELECT key FROM parents"

# Every directory that is listed or has files; what the list says of it comes first.
_SORTED = """
SELECT * FROM directories
UNION ALL BY NAME
SELECT DISTINCT key FROM parents
ORDER BY key, ctime_s DESC NULLS LAST
"""


@dataclass(frozen=True)
class Tree:
    """What was written."""

    roots: tuple[bytes, ...]
    directories: int


def write(
    connection: duckdb.DuckDBPyConnection,
    scratch: Path,
    scan_dir: Path,
    source: ListSource,
    errors: Errors,
    max_depth: int,
) -> Tree:
    """Write the dataset `dirs` and, into `scratch`, the numbers of all directories.

    Without roots of the source the deepest directory that holds everything is the root. A
    directory that is listed twice is written once, as it was last. What lies in directories more
    than `max_depth` below a root is left out, as a walk does not enter these.

    Raises:
        InvalidError: there is nothing in the list, or nothing in one of the roots.
        UnavailableError: the disk is full or fails.
    """
    first, last = connection.sql(f"SELECT min(key), max(key) FROM ({_KEYS})").fetchall()[0]
    if first is None:
        raise InvalidError("there is nothing in the list; the earlier scan stays current")
    keys = [places.key_of(root) for root in source.roots] or [_common(first, last)]
    writer = parts.PartWriter(scan_dir, "dirs", 0)
    stack = _Stack(keys, errors, max_depth, modes_decide=source.modes_decide)
    with pq.ParquetWriter(scratch / NUMBERED, _NUMBERED, compression="lz4") as numbered:
        # DuckDB may need its memory for the sort still, so batches are small.
        for batch in connection.execute(_SORTED).fetch_record_batch(parts.ROW_GROUP_ROWS // 8):
            rows = stack.rows(batch)
            if len(rows):
                writer.write(rows.columns(batch))
                numbered.write_table(rows.numbered(max_depth))
    writer.close()
    for key in keys:
        if key not in stack.seen_roots:
            raise InvalidError(f"nothing in the list lies in {display_name(places.path_of(key))}")
    return Tree(tuple(map(places.path_of, keys)), stack.directories)


def _common(first: bytes, last: bytes) -> bytes:
    """The deepest directory above, or at, all keys between two."""
    shared = []
    for one, other in zip(first.split(b"\0"), last.split(b"\0"), strict=False):
        if one != other:
            break
        shared.append(one)
    return b"\0".join(shared)


class _Rows:
    """Rows of `dirs`: those of a batch that count, and synthesised ones between them."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._ancestors: list[tuple[int, ...]] = []
        self._accesses: list[str | None] = []
        self._errors: list[str | None] = []
        # Where the batch has the row; None for those that it has not.
        self._taken: list[int | None] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(
        self,
        key: bytes,
        ancestors: tuple[int, ...],
        own_access: str | None,
        error: str | None,
        taken: int | None,
    ) -> None:
        """Append the directory that `ancestors` end with."""
        self._keys.append(key)
        self._ancestors.append(ancestors)
        self._accesses.append(own_access)
        self._errors.append(error)
        self._taken.append(taken)

    def columns(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """The columns of `record.DIRS`."""
        taken = batch.take(pa.array(self._taken, pa.int64()))
        own = {
            "dir_id": [ancestors[-1] for ancestors in self._ancestors],
            "parent_id": [a[-2] if len(a) > 1 else None for a in self._ancestors],
            "path": places.paths_of(pa.array(self._keys, pa.binary())),
            "depth": [len(ancestors) - 1 for ancestors in self._ancestors],
            "ancestors": self._ancestors,
            "access": self._accesses,
            "error": self._errors,
        }
        return [
            pa.array(own[field.name], field.type)
            if field.name in own
            else pc.fill_null(taken[field.name], 0)
            for field in record.DIRS
        ]

    def numbered(self, max_depth: int) -> pa.Table:
        """The keys with their numbers, of directories that are not too deep to have entries."""
        rows = zip(self._keys, self._ancestors, strict=True)
        found = [(key, a[-1]) for key, a in rows if len(a) <= max_depth + 1]
        keys, numbers = [key for key, _ in found], [number for _, number in found]
        return pa.table([pa.array(keys, pa.binary()), numbers], schema=_NUMBERED)


class _Stack:
    """The directories from a root down to the latest one."""

    def __init__(
        self, roots: Sequence[bytes], errors: Errors, max_depth: int, *, modes_decide: bool
    ) -> None:
        self._roots = roots
        self._errors = errors
        self._max_depth = max_depth
        self._modes_decide = modes_decide
        # The key with a separator, the number and the access of each.
        self._above: list[tuple[bytes, int, str]] = []
        self._last: bytes | None = None
        self.seen_roots: set[bytes] = set()
        self.directories = 0

    def rows(self, batch: pa.RecordBatch) -> _Rows:
        """Number the directories of a batch, which continues the one before."""
        rows = _Rows()
        columns = (batch[name].to_pylist() for name in ("key", "mode", "uid", "gid"))
        for position, (key, mode, uid, gid) in enumerate(zip(*columns, strict=True)):
            if key == self._last:
                if mode is not None:
                    self._errors.add(places.path_of(key), "repeated", REPEATED)
                continue
            self._last = key
            for missing in self._missing(key):
                if not self._may_have_directories():
                    break
                self._add(rows, missing, None, None)
            if self._may_have_directories():
                owner = None if mode is None else (uid, gid, mode)
                self._add(rows, key, position, owner)
        return rows

    def _may_have_directories(self) -> bool:
        return len(self._above) <= self._max_depth + 1

    def _missing(self, key: bytes) -> Iterator[bytes]:
        """Leave the directories that are not above `key`; what then lacks between."""
        while self._above and not key.startswith(self._above[-1][0]):
            self._above.pop()
        if self._above:
            begin = len(self._above[-1][0])
        else:
            root = next(r for r in self._roots if (key + b"\0").startswith(r + b"\0"))
            self.seen_roots.add(root)
            if root == key:
                return
            yield root
            begin = len(root) + 1
        while (end := key.find(b"\0", begin)) != -1:
            yield key[:end]
            begin = end + 1

    def _add(
        self, rows: _Rows, key: bytes, position: int | None, owner: tuple[int, int, int] | None
    ) -> None:
        """Add a directory of an owner (uid, gid, mode), which is None if the list has none."""
        self.directories += 1
        above = self._above[-1][2] if self._above else self._above_root(key)
        # Mode 0 lets nobody in.
        own = access.extended(above, key.count(b"\0"), *(owner or (0, 0, 0)))
        self._above.append((key + b"\0", self.directories, own))
        ancestors = tuple(number for _, number, _ in self._above)
        error = None if owner else NOT_LISTED
        if not self._may_have_directories():
            error = "depth"
            message = f"more than {self._max_depth} levels"
            self._errors.add(places.path_of(key), error, message)
        rows.add(key, ancestors, own if self._modes_decide else None, error, position)

    def _above_root(self, key: bytes) -> str:
        try:
            return access.above_root(places.path_of(key))
        except OSError:
            return access.HIDDEN
