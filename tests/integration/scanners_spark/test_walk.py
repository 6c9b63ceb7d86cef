"""The distributed walk finds what the local one finds, shared out over the executors."""

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from datamgr.config import Settings
from datamgr.errors import UnavailableError
from scanners import spark_walk
from scanners.directory import Frame
from scanners.record import SCHEMAS
from scanners.walk import WalkResult, root_frames
from scanners.walker import WalkOptions
from tests import trees
from tests.walked import Rows, rows, walked

OPTIONS = WalkOptions(workers=2)

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[list[spark_walk.Walked]]:
    """The answers of each round's tasks; rounds are short, so that there are many."""
    monkeypatch.setattr(spark_walk, "FIRST_ROUND_S", 0.02)
    monkeypatch.setattr(spark_walk, "LONGEST_ROUND_S", 0.1)
    seen: list[list[spark_walk.Walked]] = []
    really = spark_walk._round

    def noting(*arguments: Any) -> list[spark_walk.Walked]:
        seen.append(really(*arguments))
        return seen[-1]

    monkeypatch.setattr(spark_walk, "_round", noting)
    return seen


def one_huge_project(root: Path) -> None:
    """Two small projects beside one of 3,000 directories on two levels, and hostile names."""
    for name in ("small/sub", "other"):
        (root / name).mkdir(parents=True)
        trees.make_file(root / name / "file", 100)
    os.link(root / "other/file", root / "small/link")
    for outer in range(30):
        directory = root / "huge" / f"{outer:02d}"
        directory.mkdir(parents=True)
        trees.make_many_directories(directory, 100)
        trees.make_many_files(directory, 20)
    (root / "names").mkdir()
    trees.hostile(root / "names")


def walk_by_spark(settings: Settings, root: Path, scan_dir: Path) -> WalkResult:
    for dataset in SCHEMAS:
        (scan_dir / dataset).mkdir(parents=True)
    return spark_walk.walk(settings, [bytes(root)], scan_dir, OPTIONS)


def without_ids(dirs: Rows, entries: Rows) -> tuple[Any, Any]:
    """Rows by path, for ids are given as directories are visited."""
    path_of = {row["dir_id"]: row["path"] for row in dirs}
    assert len(path_of) == len(dirs), "an id was given twice"
    by_path = {}
    for row in dirs:
        above = [path_of[number] for number in row["ancestors"]]
        kept = {k: v for k, v in row.items() if k not in ("dir_id", "parent_id", "ancestors")}
        by_path[row["path"]] = kept | {"above": above, "parent": path_of.get(row["parent_id"])}
    files = [{**row, "dir_id": path_of[row["dir_id"]]} for row in entries]
    return by_path, sorted(files, key=lambda row: (row["dir_id"], row["name"]))


def test_a_huge_project_is_shared_out(
    spark_settings: Settings, rounds: list[list[spark_walk.Walked]], tmp_path: Path
) -> None:
    root, store = tmp_path / "tree", tmp_path / "scan"
    root.mkdir()
    one_huge_project(root)
    local = walked([root], tmp_path / "local")
    result = walk_by_spark(spark_settings, root, store)
    assert (result.entries, result.directories) == (len(local.entries), len(local.dirs))
    dirs, entries = rows(store, "dirs"), rows(store, "entries")
    assert without_ids(dirs, entries) == without_ids(local.dirs, local.entries)
    assert sorted(path.name for path in store.iterdir()) == sorted(SCHEMAS)
    executor_of = {one.attempt: one.executor for answers in rounds for one in answers}
    huge = bytes(root / "huge")
    walkers = {executor_of[row["dir_id"] >> 32] for row in dirs if row["path"].startswith(huge)}
    assert len(walkers) == 2


def test_an_executor_killed_while_walking_loses_and_doubles_nothing(
    spark_settings: Settings,
    rounds: list[list[spark_walk.Walked]],
    executors: Callable[[], list[psutil.Process]],
    tmp_path: Path,
) -> None:
    root, store = tmp_path / "tree", tmp_path / "scan"
    root.mkdir()
    one_huge_project(root)
    local = walked([root], tmp_path / "local")
    killed: list[psutil.Process] = []

    def kill(is_over: threading.Event) -> None:
        # Right after a task has begun to write; on a busy machine the walk may be over before.
        while not is_over.is_set():
            begun = 0
            with suppress(FileNotFoundError):  # not yet there, or over and removed
                begun = len(os.listdir(store / spark_walk.ATTEMPTS))
            if begun >= 6:
                killed.append(executors()[0])
                killed[0].kill()
                return

    for _ in range(10):
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        is_over = threading.Event()
        killer = threading.Thread(target=kill, args=(is_over,))
        killer.start()
        walk_by_spark(spark_settings, root, store)
        is_over.set()
        killer.join()
        if killed:
            break
    assert not killed[0].is_running()
    found = without_ids(rows(store, "dirs"), rows(store, "entries"))
    assert found == without_ids(local.dirs, local.entries)


def test_a_store_that_executors_cannot_write_is_named(
    spark_settings: Settings, tmp_path: Path
) -> None:
    store = tmp_path / "scan"
    share = spark_walk.Share(root_frames([bytes(tmp_path)]), [], 1)
    with pytest.raises(UnavailableError, match=r"scan.store_dir on a file system that all"):
        spark_walk._walk_share(1, ("here", 1), store / "attempts", OPTIONS, share)


def test_devices_are_numbered_as_on_the_driver(tmp_path: Path) -> None:
    """A host that gives the file system another number walks it all the same."""
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/file").touch()
    (tmp_path / "attempts").mkdir()
    (above,) = root_frames([bytes(tmp_path / "tree")])
    elsewhere = Frame(above.path, above.dir_id, (), 12345, above.names, above.inodes)
    share = spark_walk.Share([elsewhere], [elsewhere], 10)
    done = spark_walk._walk_share(7, ("here", 1), tmp_path / "attempts", OPTIONS, share)
    assert (done.entries, done.directories, done.errors) == (1, 2, {})
    written = tmp_path / "attempts/7"
    assert {row["dev"] for name in ("dirs", "entries") for row in rows(written, name)} == {12345}


def test_another_directory_at_the_path_of_a_root_is_refused(tmp_path: Path) -> None:
    (above,) = root_frames([bytes(tmp_path)])
    other = Frame(above.path, above.dir_id, (), above.device, above.names, [1])
    with pytest.raises(UnavailableError, match="is another directory on an executor"):
        spark_walk.devices_here([other])


def test_shares_hold_every_directory_once() -> None:
    frames = [
        Frame(b"/a", 1, (1,), 1, [b"%d" % n for n in range(1000)], list(range(1000))),
        Frame(b"/b", 2, (2,), 1, [b"x"], [7]),
    ]
    shares = spark_walk.share_out(frames, 4)
    given = [
        (frame.path, name, inode)
        for share in shares
        for frame in share
        for name, inode in zip(frame.names, frame.inodes, strict=True)
    ]
    expected = [*((b"/a", b"%d" % n, n) for n in range(1000)), (b"/b", b"x", 7)]
    assert sorted(given) == sorted(expected)
    sizes = [sum(len(frame.names) for frame in share) for share in shares]
    assert len(shares) == 4
    assert max(sizes) < 2 * min(sizes)
