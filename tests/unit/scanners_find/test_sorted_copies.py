"""Very large directories, a page at a time: the same rows in the same order as sorting all."""

import random
import stat
from array import array
from pathlib import Path

import pyarrow as pa
import pytest

from datamgr.config import Settings
from datamgr.config_web import WebSettings
from scanners import decoded, files_of_directory, parts, record
from scanners.files_of_directory import InMemory
from scanners.reader import DirectoryIds, ScanReader
from scanners.sorted_copies import SortedCopy

DIRECTORY, FILES = 7, 900
ORDERS = (
    [("name", "ascending")],
    [("alloc_bytes", "descending"), ("name", "ascending")],
    [("uid", "ascending"), ("name", "ascending")],
    [("mtime_s", "ascending"), ("name", "ascending")],
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def scan_dir(tmp_path: Path) -> Path:
    """Two writers' parts: the directory lies across several row groups, between others."""
    folder = tmp_path / "scan"
    (folder / "entries").mkdir(parents=True)
    chance = random.Random(1)
    for number in range(2):
        dir_ids = [3] * 50 + [DIRECTORY] * (FILES // 2) + [9] * 50
        writer = parts.PartWriter(folder, "entries", number)
        for begin in range(0, len(dir_ids), 128):
            some = dir_ids[begin : begin + 128]
            writer.write([_column(field, some, chance) for field in record.ENTRIES])
        writer.close()
    return folder


def _column(field: pa.Field, dir_ids: list[int], chance: random.Random) -> pa.Array:
    values: list[object] = [chance.randrange(5) for _ in dir_ids]
    if field.name == "dir_id":
        values = list(dir_ids)
    elif field.name == "name":
        values = [b"%020x" % chance.getrandbits(80) for _ in dir_ids]
    elif field.name == "kind":
        values = ["f"] * len(dir_ids)
    return pa.array(values, field.type)


def sorted_whole(scan_dir: Path) -> InMemory:
    """All of the directory's files."""
    groups = ScanReader(scan_dir, DirectoryIds(array("q", [DIRECTORY]))).row_groups("entries")
    return InMemory([decoded.of_directory(decoded.read(group), DIRECTORY) for group in groups])


def test_each_page_is_that_of_the_sorted_whole(settings: Settings, scan_dir: Path) -> None:
    few, many = sorted_whole(scan_dir), files_of_directory.of(settings, scan_dir, DIRECTORY)
    assert isinstance(many, SortedCopy)
    assert few.rows == many.rows == FILES
    for order in ORDERS:
        for start in (0, 95, FILES - 30, FILES):
            wanted = few.page(order, start, 100).to_pylist()
            assert many.page(order, start, 100).to_pylist() == wanted
            assert len(wanted) == min(100, FILES - start)


def test_a_copy_is_made_once_and_seen_by_its_account_alone(
    settings: Settings, scan_dir: Path
) -> None:
    files_of_directory.of(settings, scan_dir, DIRECTORY)
    (first,) = (settings.state_dir / "directories").iterdir()
    made = (first / "rows.arrow").stat().st_mtime_ns
    files_of_directory.of(settings, scan_dir, DIRECTORY)
    assert (first / "rows.arrow").stat().st_mtime_ns == made
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700


def test_copies_take_bounded_room_and_are_made_again(settings: Settings, scan_dir: Path) -> None:
    none = settings.model_copy(update={"web": WebSettings(sorted_mib=0)})
    folder = settings.state_dir / "directories"
    first = files_of_directory.of(none, scan_dir, DIRECTORY)
    before = first.page(ORDERS[0], 0, 5).to_pylist()
    (made,) = folder.iterdir()
    # As another scan's would be: its files are others.
    for part in (scan_dir / "entries").iterdir():
        part.touch()
    second = files_of_directory.of(none, scan_dir, DIRECTORY)
    (left,) = folder.iterdir()
    assert left != made
    assert second.page(ORDERS[0], 0, 5).to_pylist() == before


def test_without_room_on_disk_all_is_sorted_in_memory(settings: Settings, scan_dir: Path) -> None:
    settings.state_dir.mkdir()
    (settings.state_dir / "directories").write_text("in the way")
    found = files_of_directory.of(settings, scan_dir, DIRECTORY)
    assert isinstance(found, InMemory)
    assert found.rows == FILES
    assert found.page(ORDERS[0], 0, 100).num_rows == 100


def test_a_directory_without_files_has_no_rows(settings: Settings, scan_dir: Path) -> None:
    found = files_of_directory.of(settings, scan_dir, 5)
    assert (found.rows, found.page(ORDERS[0], 0, 100).to_pylist()) == (0, [])
