"""A walk without its publication: what it wrote to its Parquet files, as Python rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from scanners import parts, walk
from scanners.record import SCHEMAS
from scanners.walk import Progress, WalkResult
from scanners.walker import WalkOptions

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Walked:
    """The result and the datasets of one walk."""

    result: WalkResult
    dirs: Rows
    entries: Rows
    errors: Rows

    @property
    def paths(self) -> list[bytes]:
        """The directories, sorted."""
        return sorted(row["path"] for row in self.dirs)

    @property
    def files(self) -> list[bytes]:
        """What is no directory, by path, sorted."""
        path_of = {row["dir_id"]: row["path"] for row in self.dirs}
        return sorted(path_of[row["dir_id"]] + b"/" + row["name"] for row in self.entries)

    @property
    def named(self) -> dict[bytes, str]:
        """The reason of each error, by path."""
        return {row["path"]: row["reason"] for row in self.errors}


def walked(
    roots: Sequence[Path],
    scan_dir: Path,
    *,
    workers: int = 2,
    max_depth: int = 1000,
    cross_mounts: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Walked:
    """Walk into `scan_dir`, which is made, and read what is there; counts must agree."""
    for dataset in SCHEMAS:
        (scan_dir / dataset).mkdir(parents=True)
    options = WalkOptions(workers, max_depth, cross_mounts)
    result = walk.walk([bytes(root) for root in roots], scan_dir, options, on_progress)
    found = Walked(result, *(rows(scan_dir, name) for name in ("dirs", "entries", "errors")))
    assert (result.entries, result.directories) == (len(found.entries), len(found.dirs))
    assert sum(result.errors.values()) == len(found.errors)
    return found


def rows(scan_dir: Path, dataset: str) -> Rows:
    tables = [pq.read_table(path).to_pylist() for path in parts.part_files(scan_dir, dataset)]
    return [row for table in tables for row in table]
