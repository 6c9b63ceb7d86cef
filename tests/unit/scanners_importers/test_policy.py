"""The policy that is shipped and the fields that are expected of it say the same."""

import re
from pathlib import Path

from scanners.importers import gpfs, lfs_find

ROOT = Path(__file__).parents[3]
ATTRIBUTES = {
    "MODE": "permissions", "NLINK": "nlink", "USER_ID": "uid", "GROUP_ID": "gid",
    "FILE_SIZE": "size_bytes", "KB_ALLOCATED": "alloc_kb", "ACCESS_TIME": "atime_utc",
    "MODIFICATION_TIME": "mtime_utc", "CHANGE_TIME": "ctime_utc",
}  # fmt: skip


def test_the_policy_shows_what_is_read() -> None:
    policy = (ROOT / "deploy/gpfs/scan.policy").read_text()
    rules = re.sub(r"/\*.*?\*/", "", policy, flags=re.DOTALL)
    shown = re.findall(r"VARCHAR\((\w+)\)", rules)
    assert ",".join(ATTRIBUTES[name] for name in shown) == gpfs.SHOWN
    assert rules.count("|| '|' ||") == len(shown) - 1
    assert "ESCAPE '%/'" in rules
    assert "DIRECTORIES_PLUS" in rules


def test_the_documented_line_of_lfs_find() -> None:
    page = (ROOT / "docs/howto/import-lists.md").read_text()
    assert f"--printf '{lfs_find.PRINTF}'" in page
    letters = re.findall(r"%L?[A-Za-z]@?", lfs_find.PRINTF)
    assert len(letters) == 14
