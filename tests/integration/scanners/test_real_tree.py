"""A real tree: every figure of a scan of /usr/lib against find, du and the oracle."""

import os
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.db import Database
from scanners import queries, scan
from scanners.visibility import EVERYTHING
from tests import oracle

ROOT = Path("/usr/lib")
ATTEMPTS = 3


@dataclass(frozen=True)
class Found:
    """One inode name as `find` prints it; `top` is the name directly below ROOT."""

    inode: str
    kind: str
    size_bytes: int
    alloc_bytes: int
    uid: int
    gid: int
    path: bytes

    @property
    def top(self) -> bytes:
        """The top-level directory that it is in; empty for ROOT and the files directly in it."""
        first, slash, _ = os.path.relpath(self.path, os.fsencode(ROOT)).partition(b"/")
        return first if slash or (self.kind == "d" and first != b".") else b""


@dataclass(frozen=True)
class Compared:
    database: Database
    scan_id: int
    found: list[Found]
    du_once: dict[bytes, int]
    du_all: dict[bytes, int]
    rollups: oracle.RollUps
    expected: oracle.RollUps


def find() -> list[Found]:
    fields = rb"%D:%i\t%y\t%s\t%b\t%U\t%G\t%p\0"
    printed = subprocess.run(
        ["find", ROOT, "-xdev", "-printf", fields], check=True, capture_output=True
    ).stdout
    found = []
    for line in printed.rstrip(b"\0").split(b"\0"):
        inode, kind, size, blocks, uid, gid, path = line.split(b"\t", 6)
        found.append(Found(inode.decode(), kind.decode(), int(size), int(blocks) * 512,
                           int(uid), int(gid), path))  # fmt: skip
    return sorted(found, key=lambda f: f.path)


def du(*options: str) -> dict[bytes, int]:
    printed = subprocess.run(["du", "-0", *options, ROOT], check=True, capture_output=True).stdout
    lines = printed.rstrip(b"\0").split(b"\0")
    return {path: int(size) for size, path in (line.split(b"\t", 1) for line in lines)}


@pytest.fixture(scope="module")
def compared(module_settings: Settings, module_database: Database) -> Compared:
    """A scan during which the tree stood still, for the machine may install something."""
    request = scan.ScanRequest("usr", [os.fsencode(ROOT)], workers=2)
    for _ in range(ATTEMPTS):
        before = find()
        scan_id = scan.run(module_settings, module_database, request)
        tree = oracle.directories([ROOT])
        du_once, du_all = du("-sxB1"), du("-lxB1")
        if find() == before:
            break
    else:
        pytest.fail(f"{ROOT} changed during each of {ATTEMPTS} scans")
    with module_database.transaction(read_only=True) as session:
        rollups = oracle.stored(session, scan_id)
        started_at = session.get_one(scan.Scan, scan_id).started_at
    projects = {d.path: os.fsdecode(os.path.basename(d.path)) for d in tree
                if os.path.dirname(d.path) == os.fsencode(ROOT)}  # fmt: skip
    projects[os.fsencode(ROOT)] = "(no project)"
    expected = oracle.expected([ROOT], projects, int(started_at.timestamp()), found=tree)
    return Compared(module_database, scan_id, before, du_once, du_all, rollups, expected)


def once(found: list[Found]) -> list[Found]:
    """What is no directory, each inode once."""
    return list({f.inode: f for f in found if f.kind != "d"}.values())


def changes(rollups: oracle.RollUps) -> tuple[object, object]:
    """What depends on times, access times left out."""
    newest = {path: times[1:] for path, times in rollups.newest.items()}
    return newest, {key: value for key, value in rollups.age.items() if key[2] != "atime"}


def totals(compared: Compared) -> Counter[str]:
    return compared.rollups.directory[os.fsencode(ROOT)]


def test_counts_what_find_counts(compared: Compared) -> None:
    kinds = Counter(f.kind == "d" for f in compared.found)
    assert totals(compared)["directories"] == kinds[True]
    assert totals(compared)["files_all_links"] == kinds[False]
    assert totals(compared)["files"] == len(once(compared.found))
    with compared.database.transaction() as session:
        row = session.get_one(scan.Scan, compared.scan_id)
    assert (row.entries, row.directories, row.errors) == (kinds[False], kinds[True], {})


def test_apparent_bytes_are_those_of_find_without_directories(compared: Compared) -> None:
    files = [f for f in compared.found if f.kind != "d"]
    assert totals(compared)["size_bytes"] == sum(f.size_bytes for f in once(compared.found))
    assert totals(compared)["size_all_bytes"] == sum(f.size_bytes for f in files)


def test_apparent_bytes_are_those_of_du_less_the_directories_own(compared: Compared) -> None:
    apparent = du("-sxb")[os.fsencode(ROOT)]
    own = sum(f.size_bytes for f in compared.found if f.kind == "d")
    # du counts no size for what is no file, directory or link; there is nothing of that.
    assert {f.kind for f in compared.found} <= {"f", "d", "l"}
    assert totals(compared)["size_bytes"] == apparent - own


def test_allocated_bytes_are_those_of_du(compared: Compared) -> None:
    assert totals(compared)["alloc_bytes"] == compared.du_once[os.fsencode(ROOT)]
    assert totals(compared)["alloc_all_bytes"] == compared.du_all[os.fsencode(ROOT)]


def test_every_directory_has_the_all_links_total_of_du(compared: Compared) -> None:
    totals = {path: c["alloc_all_bytes"] for path, c in compared.rollups.directory.items()}
    assert totals == compared.du_all


def test_all_roll_ups_equal_the_oracle(compared: Compared) -> None:
    """Counted-once totals of every directory too, ages, owners and the biggest files.

    Access times are left to other trees: on this one they move while programs run.
    """
    assert compared.rollups.directory == compared.expected.directory
    assert compared.rollups.usage == compared.expected.usage
    assert compared.rollups.project_of == compared.expected.project_of
    assert compared.rollups.top_file == compared.expected.top_file
    assert changes(compared.rollups) == changes(compared.expected)


@pytest.mark.parametrize("owner", ["user", "group"])
def test_users_and_groups_have_what_find_says(compared: Compared, owner: str) -> None:
    key: Callable[[Found], int] = (lambda f: f.uid) if owner == "user" else (lambda f: f.gid)
    files, alloc = Counter[int](), Counter[int]()
    for f in once(compared.found):
        files[key(f)] += 1
        alloc[key(f)] += f.alloc_bytes
    for f in compared.found:
        alloc[key(f)] += f.alloc_bytes if f.kind == "d" else 0
    with compared.database.transaction(read_only=True) as session:
        rows = queries.by_owner(session, EVERYTHING, queries.Selection("usr"), owner)
    number = {"user": "uid", "group": "gid"}[owner]
    assert {r[number]: (r["files"], r["alloc_bytes"]) for r in rows} == {
        n: (files[n], alloc[n]) for n in alloc
    }


def test_each_top_level_directory_is_a_project_with_the_inodes_of_find(
    compared: Compared,
) -> None:
    entries, directories = Counter[bytes](), Counter[bytes]()
    for f in compared.found:
        (directories if f.kind == "d" else entries)[f.top] += 1
    with compared.database.transaction(read_only=True) as session:
        rows: list[dict[str, Any]] = queries.projects(session, EVERYTHING, queries.Selection("usr"))
        number_of_projects = session.scalar(
            sa.text("SELECT count(*) FROM scan_project WHERE scan_id = :id"),
            {"id": compared.scan_id},
        )
    stored = {os.path.relpath(r["path"], os.fsencode(ROOT)): r for r in rows}
    tops = {b"." if top == b"" else top: top for top in directories}
    assert set(stored) == set(tops)
    assert number_of_projects == len(tops)
    for shown, top in tops.items():
        assert stored[shown]["files_all_links"] == entries[top], top
        assert stored[shown]["directories"] == directories[top], top
