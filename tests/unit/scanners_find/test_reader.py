"""Rows of some directories, whatever order they lie in, from no more row groups than needed."""

import os
import random
from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamgr.errors import UnavailableError
from scanners import parts, record
from scanners.reader import DirectoryIds, ScanReader


def write(scan_dir: Path, dataset: str, part: int, groups: list[list[dict[str, Any]]]) -> None:
    """A part file with these row groups; columns that are not named are 0 or empty."""
    schema = record.SCHEMAS[dataset]
    empty = {pa.int64(): 0, pa.int32(): 0, pa.binary(): b"", pa.string(): "f"}
    (scan_dir / dataset).mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        scan_dir / dataset / f"part-{part:03d}-00000.parquet", schema, write_statistics=["dir_id"]
    ) as writer:
        for rows in groups:
            filled = [{f.name: empty.get(f.type, []) for f in schema} | row for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(filled, schema=schema))


def store(scan_dir: Path, *, shuffled: bool = False) -> None:
    """100 directories with 10 files each, in two parts, 10 directories a row group."""
    ids = list(range(1, 101))
    for dataset in ("dirs", "entries"):
        if shuffled:
            random.Random(dataset).shuffle(ids)
        rows = [
            {"dir_id": i, "path": b"/top/d%d" % i, "name": b"f%d" % number}
            for i in ids
            for number in range(10 if dataset == "entries" else 1)
        ]
        size = len(rows) // 10
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        if dataset == "dirs":
            groups = [[{k: r[k] for k in ("dir_id", "path")} for r in g] for g in groups]
        else:
            groups = [[{k: r[k] for k in ("dir_id", "name")} for r in g] for g in groups]
        write(scan_dir, dataset, 0, groups[:5])
        write(scan_dir, dataset, 1, groups[5:])


def found(reader: ScanReader) -> list[bytes]:
    paths = []
    for batch in reader.batches("entries", ["dir_id", "name"]):
        above = reader.paths(batch["dir_id"]).to_pylist()
        paths += [
            os.path.join(*pair) for pair in zip(above, batch["name"].to_pylist(), strict=True)
        ]
    return sorted(paths)


def expected(ids: list[int]) -> list[bytes]:
    return sorted(b"/top/d%d/f%d" % (i, number) for i in ids for number in range(10))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_rows_are_those_of_the_directories(tmp_path: Path, shuffled: bool, seed: int) -> None:
    store(tmp_path, shuffled=shuffled)
    chance = random.Random(seed)
    ids = sorted(chance.sample(range(1, 120), chance.randrange(1, 60)))
    reader = ScanReader(tmp_path, DirectoryIds(array("q", ids)))
    assert found(reader) == expected([i for i in ids if i <= 100])


def test_all_directories_are_all_rows(tmp_path: Path) -> None:
    store(tmp_path)
    assert found(ScanReader(tmp_path, DirectoryIds(None))) == expected(list(range(1, 101)))


def test_no_directories_are_no_rows(tmp_path: Path) -> None:
    store(tmp_path)
    reader = ScanReader(tmp_path, DirectoryIds(array("q")))
    assert found(reader) == []
    assert list(reader.row_groups("entries")) == []


def test_only_row_groups_that_hold_them_are_read(tmp_path: Path) -> None:
    """Directories 5, 11…20 and 95 lie in the first, second and last of ten row groups."""
    store(tmp_path)
    reader = ScanReader(tmp_path, DirectoryIds(array("q", [5, *range(11, 21), 95])))
    chosen = [(Path(g.file).name, g.number) for g in reader.row_groups("entries")]
    assert chosen == [("part-000-00000.parquet", n) for n in (0, 1)] + [
        ("part-001-00000.parquet", 4)
    ]


def test_a_row_group_between_two_directories_is_not_read(tmp_path: Path) -> None:
    store(tmp_path)
    reader = ScanReader(tmp_path, DirectoryIds(array("q", [10, 41])))
    assert [group.number for group in reader.row_groups("entries")] == [0, 4]


def test_a_scan_that_was_removed_is_said(tmp_path: Path) -> None:
    store(tmp_path)
    reader = ScanReader(tmp_path, DirectoryIds(None))
    batches = reader.batches("entries", ["dir_id"])
    next(batches)
    for path in parts.part_files(tmp_path, "entries"):
        os.unlink(path)
    with pytest.raises(UnavailableError, match="a newer scan has replaced it"):
        list(batches)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    store(tmp_path)
    Path(parts.part_files(tmp_path, "entries")[0]).write_bytes(b"no Parquet")
    with pytest.raises(UnavailableError, match="cannot be read"):
        found(ScanReader(tmp_path, DirectoryIds(None)))


def test_a_directory_that_lacks_is_damage(tmp_path: Path) -> None:
    store(tmp_path)
    os.unlink(parts.part_files(tmp_path, "dirs")[1])
    with pytest.raises(UnavailableError, match="lacks directories"):
        found(ScanReader(tmp_path, DirectoryIds(None)))
