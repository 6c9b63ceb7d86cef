"""A fixed tree with one of everything: each column of each roll-up against a reviewed file.

After a change that is meant to alter it, write the file anew by
`WRITE_EXPECTED=1 pytest tests/integration/scanners/test_fixed_tree.py` and review the
difference.
"""

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import catalog
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller, Role
from scanners import scan
from tests import mounts, oracle, trees

EXPECTED = Path(__file__).parent / "expected" / "fixed_tree.json"
STAFF = Caller("root", 0, frozenset({0}), Role.STAFF)
WRITE = "WRITE_EXPECTED"

# Whatever identifies rows comes first, so that the file can be read from top to bottom.
QUERIES = {
    "scan_project": "SELECT * FROM scan_project ORDER BY number",
    "project_history": "SELECT * FROM project_history ORDER BY project",
    "usage": """SELECT p.name AS project, t.* FROM usage t JOIN scan_project p
        ON p.number = t.project_number ORDER BY p.name, uid, gid""",
    "directory": """SELECT t.path, p.name AS project, up.path AS parent, t.* FROM directory t
        JOIN scan_project p ON p.number = t.project_number
        LEFT JOIN directory up ON up.dir_id = t.parent_id ORDER BY t.path""",
    "top_file": """SELECT t.path, p.name AS project, t.* FROM top_file t JOIN scan_project p
        ON p.number = t.project_number ORDER BY t.path""",
    "age_bin": """SELECT p.name AS project, t.* FROM age_bin t JOIN scan_project p
        ON p.number = t.project_number ORDER BY p.name, uid, basis, bin""",
}
# Numbers that another run gives out differently; projects and parents stand there by name. Rules
# depend on the directories above the tree.
OMITTED = {"scan_id", "dir_id", "parent_id", "project_number", "project_id", "access_id"}


def normalised(row: dict[str, Any], root: Path, now_s: int) -> dict[str, Any]:
    """A row with paths relative to the tree, and times relative to when it was made."""

    def show(key: str, value: Any) -> Any:
        if isinstance(value, memoryview):
            return os.path.relpath(bytes(value).decode(), root)
        if isinstance(value, datetime):
            return "the scan's start"
        if key.endswith("_s") and value is not None and value > 0:
            if abs(value - now_s) < trees.DAY_S // 2:
                return "made"  # ctime, which cannot be set
            days, rest = divmod(value - now_s, trees.DAY_S)
            return f"{days:+d} d" if rest == 0 else value
        return value

    return {key: show(key, value) for key, value in row.items() if key not in OMITTED}


def figures(database: Database, root: Path, now_s: int) -> dict[str, list[dict[str, Any]]]:
    """All roll-ups of the one scan in the database."""
    found = {}
    with database.transaction(read_only=True) as session:
        for table, query in QUERIES.items():
            rows = session.execute(sa.text(query)).mappings()
            found[table] = [normalised(dict(row), root, now_s) for row in rows]
    return found


def register(database: Database, root: Path) -> dict[bytes, str]:
    """The projects of the fixed tree: above its root, in it, and nested in that one."""
    wanted = {
        "everything": (root.parent, ProjectChange(quota_bytes=trees.MIB)),
        "alpha": (root / "alpha", ProjectChange(quota_bytes=10_000, quota_inodes=8)),
        "inner": (root / "alpha/nested/inner", ProjectChange(unix_group="root", pis=["root"])),
    }
    with database.transaction() as session:
        for name, (path, change) in wanted.items():
            placed = ProjectChange(**{**vars(change), "path": os.fsencode(path)})
            catalog.add_project(session, STAFF, name, placed)
    return {os.fsencode(path): name for name, (path, _) in wanted.items()}


@mounts.needs_root
@pytest.mark.root
def test_every_roll_up_of_the_fixed_tree_is_as_reviewed(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    with mounts.ext4(tmp_path) as place:
        root, now_s = place / "tree", int(time.time())
        trees.fixed(root, now_s)
        projects = register(database, root)
        scan_id = scan.run(settings, database, scan.ScanRequest("fixed", [os.fsencode(root)]))
        found = figures(database, root, now_s)
        with database.transaction(read_only=True) as session:
            as_of_s = int(session.get_one(scan.Scan, scan_id).started_at.timestamp())
            stored = oracle.stored(session, scan_id)
        assert stored == oracle.expected(
            [root], projects | {os.fsencode(root): "everything"}, as_of_s
        )
    if os.environ.get(WRITE):
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(EXPECTED.read_text())
