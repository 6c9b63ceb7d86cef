"""`datamgr usage duplicates`: candidates by size and name, equal files by what they hold."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datamgr.config import Settings
from datamgr.db import Database
from scanners import comparing, duplicates, places, queries
from scanners.columns import signed
from scanners.comparing import Compared
from scanners.duplicates import Copy, Group
from scanners.visibility import EVERYTHING
from tests import trees
from tests.commands import call
from tests.integration.find.conftest import Scanned, scan_it
from tests.mounts import needs_root
from tests.trees import MIB

pytestmark = [needs_root, pytest.mark.root]
KEPT, SIZE = 3, 100_000


@pytest.fixture
def tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="datamgr-test-", dir="/var/tmp") as folder:
        root = Path(folder) / "fs"
        for name in ("a", "b", "c", "d"):
            (root / name).mkdir(parents=True)
        yield root


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.sync()  # so that its blocks are counted
    return path


def content(seed: bytes, size_bytes: int = SIZE, tail: bytes = b"") -> bytes:
    return (seed * (size_bytes // len(seed) + 1))[: size_bytes - len(tail)] + tail


@pytest.fixture
def candidates(tree: Path, settings: Settings, database: Database) -> Callable[..., list[Group]]:
    """Scan the tree and find its candidates."""

    def find(larger_than_bytes: int = 0, limit: int = 100) -> list[Group]:
        scan_it(tree, settings, database)
        with database.transaction(read_only=True) as session:
            found_in = places.of(session, EVERYTHING, settings.scan_store_dir, queries.Selection())
        return duplicates.candidates(settings, found_in, larger_than_bytes, limit)

    return find


def shown(groups: list[Group], root: Path) -> list[tuple[str, set[str]]]:
    return [
        (
            os.fsdecode(group.name),
            {os.path.relpath(os.fsdecode(copy.path), root) for copy in group.copies},
        )
        for group in groups
    ]


def as_scanned(root: Path) -> list[Group]:
    """The candidates that a scan finds now, without one."""
    found: dict[tuple[str, int], list[Copy]] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        status = path.lstat()
        copy = Copy(
            os.fsencode(path),
            status.st_blocks * 512,
            int(status.st_mtime),
            signed(status.st_ino),
            signed(status.st_dev),
        )
        found.setdefault((path.name, status.st_size), []).append(copy)
    return [Group(os.fsencode(n), size, tuple(copies)) for (n, size), copies in found.items()]


def compared(groups: list[Group]) -> Compared:
    return comparing.compare(groups, lambda _: None)


def test_candidates_have_one_size_and_one_name(
    tree: Path, candidates: Callable[..., list[Group]]
) -> None:
    for place, name, size in [
        ("a", "big.h5", 3 * SIZE), ("b", "big.h5", 3 * SIZE), ("c", "big.h5", SIZE),
        ("a", "small", SIZE), ("b", "small", SIZE), ("c", "small", SIZE), ("d", "other", SIZE),
        ("a", "tiny", 10), ("b", "tiny", 10), ("a", "empty", 0), ("b", "empty", 0),
    ]:  # fmt: skip
        write(tree / place / name, content(b"x", size))
    groups = candidates()
    assert {copy for group in groups for copy in group.copies} == {
        copy
        for group in as_scanned(tree)
        if len(group.copies) > 1 and group.size_bytes
        for copy in group.copies
    }
    assert shown(groups, tree) == [
        ("big.h5", {"a/big.h5", "b/big.h5"}),
        ("small", {"a/small", "b/small", "c/small"}),
        ("tiny", {"a/tiny", "b/tiny"}),
    ]
    on_disk = (tree / "a/small").stat().st_blocks * 512
    assert groups[1].reclaimable_bytes == 2 * on_disk
    [most] = candidates(larger_than_bytes=SIZE, limit=1)
    assert most == groups[0]
    assert candidates(larger_than_bytes=3 * SIZE) == []


def test_hard_links_are_one_file(tree: Path, candidates: Callable[..., list[Group]]) -> None:
    one = write(tree / "a/data", content(b"x"))
    os.link(one, tree / "b/data")
    assert candidates() == []
    write(tree / "c/data", content(b"x"))
    [group] = candidates()
    assert shown([group], tree) == [("data", {"a/data", "c/data"})]
    assert group.reclaimable_bytes == (tree / "c/data").stat().st_blocks * 512


def test_only_equal_files_are_confirmed(tree: Path) -> None:
    """They differ early, late, or not at all; two pairs of one group are two groups."""
    for place, first in (("a", b"x"), ("b", b"x"), ("c", b"y"), ("d", b"y")):
        write(tree / place / "pairs", content(first))
    for place, tail in (("a", b""), ("b", b""), ("c", b"end")):
        write(tree / place / "late", content(b"z", 2 * SIZE, tail))
    for place, first in (("a", b"1"), ("b", b"2")):
        write(tree / place / "never", content(first))
    result = compared(as_scanned(tree))
    assert result.not_read == {}
    assert sorted(shown(result.groups, tree), key=lambda pair: sorted(pair[1])) == [
        ("late", {"a/late", "b/late"}),
        ("pairs", {"a/pairs", "b/pairs"}),
        ("pairs", {"c/pairs", "d/pairs"}),
    ]
    assert all(len(group.content or "") == 64 for group in result.groups)
    assert len({group.content for group in result.groups}) == KEPT


def test_what_is_no_longer_the_scanned_file_is_named_and_not_read(
    tree: Path, tmp_path: Path
) -> None:
    changes: dict[str, Callable[[Path], object]] = {
        "longer": lambda path: path.write_bytes(content(b"x", SIZE + 1)),
        "touched": lambda path: os.utime(path, (1, 1)),
        "gone": lambda path: path.unlink(),
        "link": lambda path: (path.rename(tmp_path / "link"), path.symlink_to(tmp_path / "link")),
        "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
        "folder": lambda path: (path.unlink(), path.mkdir()),
        "copied": lambda path: (shutil.copy2(path, tmp_path / "new"),
                                os.rename(tmp_path / "new", path)),
    }  # fmt: skip
    for name in changes:
        for place in ("a", "b", "c"):
            write(tree / place / name, content(b"x"))
    groups = as_scanned(tree)
    assert len(groups) == len(changes)
    for name, change in changes.items():
        change(tree / "c" / name)
    result = compared(groups)
    assert sorted(shown(result.groups, tree)) == [
        (name, {f"a/{name}", f"b/{name}"}) for name in sorted(changes)
    ]
    reasons = {os.path.basename(os.fsdecode(path)): why for path, why in result.not_read.items()}
    assert reasons.pop("gone") == "No such file or directory"
    assert reasons == dict.fromkeys(reasons, "changed since the scan")
    assert len(reasons) == len(changes) - 1


def test_no_symbolic_link_is_followed_on_the_way(tree: Path) -> None:
    """The file in the place of the scanned one is the scanned inode; the way to it is another."""
    for place in ("a", "b"):
        write(tree / place / "data", content(b"x"))
    groups = as_scanned(tree)
    (tree / "b").rename(tree / "moved")
    (tree / "b").symlink_to("moved")
    result = compared(groups)
    assert result.groups == []
    assert list(result.not_read) == [os.fsencode(tree / "b/data")]


def test_files_without_blocks_stay_where_they_are(tree: Path) -> None:
    """To read one that was migrated would bring it back from tape."""
    for place in ("a", "b"):
        trees.make_sparse(tree / place / "migrated", MIB)
    result = compared(as_scanned(tree))
    assert result.groups == []
    assert all("no blocks on disk" in reason for reason in result.not_read.values())
    assert len(result.not_read) == 2


def test_a_file_that_changes_while_it_is_read_is_named(tree: Path) -> None:
    for place in ("a", "b"):
        write(tree / place / "data", content(b"x", 3 * MIB))
    groups = as_scanned(tree)
    changing = tree / "a/data"

    def on_read(_: int) -> None:
        with changing.open("ab") as file:
            file.write(b"more")

    result = comparing.compare(groups, on_read)
    assert result.groups == []
    assert "changed" in result.not_read[os.fsencode(changing)]


def test_reading_leaves_access_times(tree: Path) -> None:
    for place in ("a", "b"):
        trees.describe(write(tree / place / "data", content(b"x")), read_s=1000, changed_s=2000)
    assert len(compared(as_scanned(tree)).groups) == 1
    assert (tree / "a/data").stat().st_atime == 1000


def test_without_an_inode_number_each_path_is_a_file_and_none_is_read() -> None:
    """As in lists that do not tell it."""
    copies = tuple(Copy(path, 4096, 0, 0, None) for path in (b"/etc/passwd", b"/etc/group"))
    result = compared([Group(b"name", 10, copies)])
    assert result.groups == []
    assert set(result.not_read.values()) == {"its inode number is not known"}


def test_the_command_says_what_to_reclaim(
    tree: Path, settings: Settings, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    for place in ("a", "b"):
        write(tree / place / "data\x1b[31m", content(b"x", 2 * MIB))
    scan_it(tree, settings, database)
    done = call(capfd, "usage", "duplicates")
    assert "2.0 MiB to reclaim: 2 times data\\x1b[31m of 2.0 MiB" in done.stdout
    assert "--verify compares them" in done.stdout
    assert "Equal files" in call(capfd, "usage", "duplicates", "--verify").stdout
    (tree / "a/data\x1b[31m").unlink()
    answer = call(capfd, "usage", "duplicates", "--verify", "--json").json
    assert answer["rows"] == []
    assert [row["reason"] for row in answer["not_read"]] == ["No such file or directory"]
    assert call(capfd, "usage", "duplicates", "--project", "a").stdout.splitlines()[1] == "  none"


def test_in_the_hostile_tree_nothing_breaks(
    scanned: Scanned, capfd: pytest.CaptureFixture[str]
) -> None:
    """Eight files `data*` of two projects have one size each time; see the fixture."""
    answer = call(capfd, "usage", "duplicates", "--larger-than", "0", "--json").json
    assert len(answer["rows"]) == 20
    assert all(row["copies"] == 2 for row in answer["rows"])
    assert {len(row["paths"]) for row in answer["rows"]} == {2}
