"""Columns on their way to Parquet: numbers beyond int64, names of any bytes, row groups."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanners import parts
from scanners.columns import EntryColumns, signed
from scanners.record import SCHEMAS

# mode … ctime, as the first ten numbers of a stat result.
REGULAR = (0o100644, 7, 8, 1, 1000, 1000, 123, -1, 0, 2)


def written(folder: Path, rows: list[tuple[str, tuple[int, ...]]]) -> list[dict[str, object]]:
    """Rows as `Walker` adds them, read back."""
    for dataset in SCHEMAS:
        (folder / dataset).mkdir(parents=True)
    columns = EntryColumns(parts.PartWriter(folder, "entries", 3))
    for name, numbers in rows:
        try:
            columns.numbers.extend(numbers)
        except OverflowError:
            columns.repair(numbers)
        columns.names.append(name)
        columns.blocks.append(2)
        columns.dir_ids.append(42)
    columns.close()
    [path] = parts.part_files(folder, "entries")
    assert Path(path).name == "part-003-00000.parquet"
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("inode", [2**63 - 1, 2**63, 2**64 - 1])
def test_inode_numbers_beyond_int64_are_kept_as_two_s_complement(
    tmp_path: Path, inode: int
) -> None:
    """The row that overflowed in its middle, and those before and after it."""
    large = (REGULAR[0], inode, *REGULAR[2:])
    rows = written(tmp_path, [("a", REGULAR), ("b", large), ("c", REGULAR)])
    assert [row["ino"] for row in rows] == [7, inode if inode < 2**63 else inode - 2**64, 7]
    assert [row["ctime_s"] for row in rows] == [2, 2, 2]
    assert [row["name"] for row in rows] == [b"a", b"b", b"c"]


def test_a_device_number_beyond_int64_is_repaired_too(tmp_path: Path) -> None:
    rows = written(tmp_path, [("a", (*REGULAR[:2], 2**64 - 2, *REGULAR[3:]))])
    assert (rows[0]["ino"], rows[0]["dev"], rows[0]["nlink"]) == (7, -2, 1)


@given(st.integers(0, 2**64 - 1))
def test_the_number_comes_back_from_two_s_complement(number: int) -> None:
    assert -(2**63) <= signed(number) < 2**63
    assert signed(number) % 2**64 == number


def test_kinds_and_blocks_are_those_of_find(tmp_path: Path) -> None:
    """find -printf %y; blocks are of 512 bytes."""
    kinds = {0o100000: "f", 0o120000: "l", 0o010000: "p", 0o140000: "s", 0o020000: "c",
             0o060000: "b", 0o000000: "?"}  # fmt: skip
    rows = written(tmp_path, [("n", (bits | 0o600, *REGULAR[1:])) for bits in kinds])
    assert [row["kind"] for row in rows] == list(kinds.values())
    assert {row["alloc_bytes"] for row in rows} == {1024}


def test_names_of_any_bytes_come_back(tmp_path: Path) -> None:
    names = [bytes([b]) for b in range(1, 256)] + [b"\xff\x00".replace(b"\x00", b"\n"), b"x" * 255]
    rows = written(tmp_path, [(os.fsdecode(name), REGULAR) for name in names])
    assert [row["name"] for row in rows] == names
