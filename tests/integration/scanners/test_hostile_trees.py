"""Hostile trees that stand still: odd names, great depth and width, mounts, unreadable places."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import UnavailableError
from scanners import leaders, queries, scan
from scanners.directory import PATH_MAX
from scanners.visibility import EVERYTHING
from scanners.walk import Progress
from tests import mounts, oracle, trees
from tests.walked import walked


def test_every_odd_name_and_a_path_beyond_path_max_reach_the_database(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """300 levels of 250 bytes: the path of the last has 300 · 251 bytes below its root."""
    odd, deep = tmp_path / "odd", tmp_path / "deep"
    odd.mkdir()
    deep.mkdir()
    trees.hostile(odd)
    with trees.chain(deep, 300, b"d" * 250):
        roots = [os.fsencode(odd), os.fsencode(deep)]
        scan_id = scan.run(settings, database, scan.ScanRequest("hostile", roots, workers=2))
    with database.transaction(read_only=True) as session:
        stored = oracle.stored(session, scan_id)
        found = queries.scans(session)[0]
        top = leaders.files(session, EVERYTHING, queries.Selection("hostile"), 1000)
    last = os.fsencode(deep) + (b"/" + b"d" * 250) * 300
    assert len(last) > PATH_MAX
    assert found["errors"] == {}
    # A directory and a file for each name; 300 levels, a leaf, and the two roots.
    names = trees.HOSTILE_NAMES
    assert (found["entries"], found["directories"]) == (len(names) + 1, len(names) + 300 + 2)
    assert stored.directory[last] == Counter(
        files=1, files_all_links=1, directories=1,
        alloc_bytes=stored.directory[last]["alloc_bytes"],
        alloc_all_bytes=stored.directory[last]["alloc_bytes"],
    )  # fmt: skip
    assert {row["path"] for row in top} == {
        os.path.join(os.fsencode(odd), name, name) for name in names
    } | {last + b"/leaf"}
    for name in names:
        path = os.path.join(os.fsencode(odd), name)
        assert stored.directory[path]["size_bytes"] == len(name), name


def test_each_odd_top_level_directory_is_a_project_of_its_own(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """Also the byte FF and the four letters \\xff, and one called as what is in no project."""
    root = tmp_path / "root"
    root.mkdir()
    trees.hostile(root)
    (root / "\\xff").mkdir()
    (root / "(no project)").mkdir()
    scan.run(settings, database, scan.ScanRequest("odd", [bytes(root)], workers=1))
    with database.transaction(read_only=True) as session:
        rows = queries.projects(session, EVERYTHING, queries.Selection("odd"))
        history = session.connection().exec_driver_sql("SELECT count(*) FROM project_history")
        remembered = history.scalar()
    projects = [row for row in rows if row["number"] > 0]
    assert len({row["project"] for row in projects}) == len(trees.HOSTILE_NAMES) + 2
    assert remembered == len(trees.HOSTILE_NAMES) + 3  # and "(no project)"


def test_directories_below_max_depth_are_named_and_not_entered(tmp_path: Path) -> None:
    """max_depth 4 of 10 levels: the root, levels 1 to 4, and level 5 by name only."""
    root = tmp_path / "root"
    root.mkdir()
    with trees.chain(root, 10, b"d"):
        found = walked([root], tmp_path / "scan", max_depth=4)
    assert found.paths == [os.fsencode(root) + b"/d" * level for level in range(6)]
    assert found.named == {os.fsencode(root) + b"/d" * 5: "depth"}
    assert [row["error"] for row in found.dirs if row["depth"] == 5] == ["depth"]
    assert found.entries == []


def test_a_directory_of_half_a_million_entries_is_counted_in_flat_memory(
    in_memory: Path, tmp_path: Path
) -> None:
    (in_memory / "wide").mkdir()
    trees.make_many_files(in_memory / "wide", 500_000)
    used = [0]

    def measure(_: Progress) -> None:
        used.append(max(child.memory_info().rss for child in psutil.Process().children()))

    found = walked([in_memory], tmp_path / "scan", on_progress=measure)
    assert (found.result.entries, found.result.directories) == (500_000, 2)
    assert found.errors == []
    assert len({row["name"] for row in found.entries}) == 500_000
    # A quarter of a gigabyte is Python with Arrow and a few row groups; all rows are more.
    assert 0 < max(used) < 400 * trees.MIB


def test_a_hundred_thousand_subdirectories_are_shared_out_and_counted(
    in_memory: Path, tmp_path: Path
) -> None:
    trees.make_many_directories(in_memory, 100_000)
    found = walked([in_memory], tmp_path / "scan", workers=2)
    assert found.result.directories == 100_001
    assert found.errors == []
    # The number of the process is in the upper bits of the directory's.
    shares = Counter(row["dir_id"] >> 40 for row in found.dirs)
    assert sorted(shares) == [0, 1]
    assert min(shares.values()) > 10_000


UNPRIVILEGED = (
    "setpriv", "--bounding-set=-dac_override,-dac_read_search,-chown,-fowner,-sys_admin", "--",
)  # fmt: skip

WALK_AND_PRINT = """
import sys
from pathlib import Path
from tests.walked import walked
if __name__ == "__main__":
    found = walked([Path(sys.argv[1])], Path(sys.argv[2]))
    print(repr((found.paths, found.files, found.named)))
"""


@mounts.needs_root
@pytest.mark.root
def test_unreadable_directories_are_counted_and_named(tmp_path: Path) -> None:
    """For an account without privileges: mode 0 cannot be opened, r-- cannot be looked into."""
    root = tmp_path / "root"
    for name in ("open", "closed", "listed"):
        (root / name).mkdir(parents=True)
        trees.make_file(root / name / "file")
        (root / name / "below").mkdir()
    (root / "closed").chmod(0o000)
    (root / "listed").chmod(0o444)
    script = tmp_path / "walk_and_print.py"
    script.write_text(WALK_AND_PRINT)
    try:
        printed = subprocess.run(
            [*UNPRIVILEGED, sys.executable, script, root, tmp_path / "scan"],
            check=True, capture_output=True, timeout=60, cwd=tmp_path,
        ).stdout  # fmt: skip
    finally:
        for name in ("closed", "listed"):
            (root / name).chmod(0o755)
    here = os.fsencode(root)
    paths, files, named = eval(printed)
    assert paths == [here, here + b"/closed", here + b"/listed", here + b"/open",
                     here + b"/open/below"]  # fmt: skip
    assert files == [here + b"/open/file"]
    assert named == dict.fromkeys(
        [here + b"/closed", here + b"/listed/below", here + b"/listed/file"], "permission"
    )


@mounts.needs_root
@pytest.mark.root
def test_what_is_mounted_below_is_left_out_and_named_unless_asked_for(tmp_path: Path) -> None:
    """Another file system, a directory and a file of the same one mounted once more."""
    root, image = tmp_path / "root", tmp_path / "image"
    image.mkdir()
    for name in ("kept", "twice with blank", "other"):
        (root / name).mkdir(parents=True)
    trees.make_file(root / "kept/file", 10)
    trees.make_file(root / "cover")
    here = os.fsencode(root)
    with (
        mounts.ext4(image) as other,
        mounts.bind(other, root / "other"),
        mounts.bind(root / "kept", root / "twice with blank"),
        mounts.bind(root / "kept/file", root / "cover"),
    ):
        trees.make_file(other / "elsewhere", 10)
        assert os.stat(root / "twice with blank").st_dev == os.stat(root).st_dev
        stayed = walked([root], tmp_path / "stayed")
        crossed = walked([root], tmp_path / "crossed", cross_mounts=True)
    assert stayed.paths == [here, here + b"/kept"]
    assert stayed.files == [here + b"/kept/file"]
    mounted = [here + b"/cover", here + b"/other", here + b"/twice with blank"]
    assert stayed.named == dict.fromkeys(mounted, "mount")
    assert crossed.paths == [here, here + b"/kept", here + b"/other", here + b"/other/lost+found",
                             here + b"/twice with blank"]  # fmt: skip
    assert crossed.files == [here + b"/cover", here + b"/kept/file", here + b"/other/elsewhere",
                             here + b"/twice with blank/file"]  # fmt: skip
    assert crossed.errors == []


@mounts.needs_root
@pytest.mark.root
def test_a_mount_point_hidden_under_the_root_is_no_mount_point(tmp_path: Path) -> None:
    """First root/inner is mounted, then something over root, which has an ordinary inner."""
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    with mounts.tmpfs(root / "inner", trees.MIB), mounts.tmpfs(root, trees.MIB):
        (root / "inner").mkdir()
        trees.make_file(root / "inner/file")
        found = walked([root], tmp_path / "scan")
    assert found.files == [os.fsencode(root) + b"/inner/file"]
    assert found.errors == []


@mounts.needs_root
@pytest.mark.root
def test_a_root_that_is_unmounted_meanwhile_is_no_empty_one(tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "root", 64 * trees.MIB) as root:
        trees.make_many_directories(root, 50_000)
        unmounted = []

        def unmount(seen: Progress) -> None:
            if seen.directories > 100 and not unmounted:
                unmounted.append(seen)
                mounts.run("umount", "--lazy", root)
                mounts.run("mount", "-t", "tmpfs", "-o", "size=1m", "datamgr-test", root)

        with pytest.raises(UnavailableError, match="unmounted or replaced"):
            walked([root], tmp_path / "scan", workers=1, on_progress=unmount)
        assert unmounted[0].directories < 50_000


def test_a_root_that_vanished_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be read: No such file"):
        walked([tmp_path / "gone"], tmp_path / "scan")
