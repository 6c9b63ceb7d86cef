"""What grew between two scans: by project, by user, by directory, since a date."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import NotFoundError
from scanners import growth, scan
from scanners.queries import Selection
from scanners.visibility import EVERYTHING
from tests import mounts, trees

FS = Selection("fs")


@pytest.fixture(scope="module")
def changed(
    module_settings: Settings, module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Database, Path]:
    """Three scans, a day apart by their dates: at first, after changes, after nothing.

    On tmpfs a directory takes no block and a file its size in pages of 4 KiB.
    """
    request = scan.ScanRequest("fs", [], workers=1)
    with mounts.tmpfs(tmp_path_factory.mktemp("growing"), 64 * trees.MIB) as root:
        for path in ("ada/keep", "ada/deep/deeper/deepest", "bob/gone", "cy"):
            (root / path).mkdir(parents=True)
        trees.make_file(root / "ada/keep/file", 40_960, owner=(trees.ADA, 0))
        trees.make_file(root / "bob/gone/file", 81_920, owner=(trees.BOB, 0))
        request = scan.ScanRequest("fs", [bytes(root)], workers=1)
        scan.run(module_settings, module_database, request)
        trees.make_file(root / "ada/deep/deeper/deepest/new", 20_480, owner=(trees.ADA, 0))
        trees.make_file(root / "ada/keep/more", 4096, owner=(trees.BOB, 0))
        shutil.rmtree(root / "bob")
        os.truncate(root / "ada/keep/file", 4096)
        (root / "dan").mkdir()
        scan.run(module_settings, module_database, request)
        scan.run(module_settings, module_database, request)
    with module_database.transaction() as session:
        session.execute(
            sa.text("UPDATE scan SET started_at = CAST(:day AS timestamptz) + id * interval '1 d'"),
            {"day": datetime(2030, 1, 1, tzinfo=UTC)},
        )
    return module_database, root


def day(number: int) -> datetime:
    """The date of the scan of this number."""
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=number)


def rows_of(
    database: Database, what: str, since: datetime | None, selection: Selection = FS
) -> list[dict[str, Any]]:
    with database.transaction(read_only=True) as session:
        [pair] = growth.require_pairs(session, EVERYTHING, selection, since)
        if what == "directory":
            return growth.by_directory(session, EVERYTHING, pair, selection, 10)
        by = {"project": growth.by_project, "user": growth.by_user}[what]
        return by(session, EVERYTHING, pair, selection)


pytestmark = [mounts.needs_root, pytest.mark.root]


def test_projects_that_grew_shrank_went_and_came(changed: tuple[Database, Path]) -> None:
    """ada: + 20 480 + 4096 - 36 864 bytes and 2 files; bob: - 81 920, 2 directories and a file."""
    database, _ = changed
    found = {
        row["project"]: (row["grown_bytes"], row["grown_inodes"], row["alloc_bytes"])
        for row in rows_of(database, "project", day(1))
    }
    assert found == {
        "dan": (0, 1, 0),
        "cy": (0, 0, 0),
        "(no project)": (0, 0, 0),
        "ada": (-12_288, 2, 28_672),
        "bob": (-81_920, -3, 0),
    }


def test_users_grow_by_what_they_own_wherever_it_is(changed: tuple[Database, Path]) -> None:
    database, _ = changed
    found = {
        row["uid"]: (row["grown_bytes"], row["grown_inodes"])
        for row in rows_of(database, "user", day(1))
    }
    # root owns the directories: dan came, bob and bob/gone went.
    assert found == {trees.ADA: (-16_384, 1), trees.BOB: (-77_824, 0), 0: (0, -1)}


def test_a_directory_is_named_as_deep_as_its_growth_reaches(
    changed: tuple[Database, Path],
) -> None:
    """ada/deep/deeper/deepest, not those above it; ada/keep shrank but has a file more."""
    database, root = changed
    found = [
        (os.fsdecode(row["path"]), row["grown_bytes"], row["grown_inodes"])
        for row in rows_of(database, "directory", day(1))
    ]
    assert found[0] == (f"{root}/ada/deep/deeper/deepest", 20_480, 1)
    assert (f"{root}/ada/keep", -32_768, 1) in found
    assert (f"{root}/dan", 0, 1) in found
    assert not [path for path, _, _ in found if path.endswith(("deep", "deeper"))]


def test_without_a_date_the_two_newest_are_compared(changed: tuple[Database, Path]) -> None:
    database, _ = changed
    assert {row["grown_bytes"] for row in rows_of(database, "project", None)} == {0}
    assert rows_of(database, "directory", None) == []


@pytest.mark.parametrize(
    ("since", "old_id"),
    [(day(1), 1), (day(2) - timedelta(seconds=1), 1), (day(2), 2), (day(9), 2), (day(-9), 1)],
    ids=["to the second", "just before", "the next", "later than all", "earlier than all"],
)
def test_the_last_scan_up_to_a_date_is_compared(
    changed: tuple[Database, Path], since: datetime, old_id: int
) -> None:
    database, _ = changed
    with database.transaction(read_only=True) as session:
        [pair] = growth.scan_pairs(session, EVERYTHING, FS, since)
    assert (pair["old_id"], pair["new_id"]) == (old_id, 3)


def test_growth_of_one_project_is_its_own(changed: tuple[Database, Path]) -> None:
    database, root = changed
    chosen = Selection("fs", "dan")
    assert [row["project"] for row in rows_of(database, "project", day(1), chosen)] == ["dan"]
    assert [row["path"] for row in rows_of(database, "directory", day(1), chosen)] == [
        os.fsencode(root / "dan")
    ]
    with pytest.raises(NotFoundError, match="no project 'bob' in a current scan"):
        rows_of(database, "project", day(1), Selection("fs", "bob"))
