"""The totals of a directory tree, computed the slow and simple way: listdir, lstat and loops.

`expected` reads the tree, `stored` what a scan published, `computed` what a roll-up says; they
must be equal.
"""

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from scanners.rollup import Rollup, ScanProject

Row = dict[str, Any]

DAY_S = 86_400
AGE_LIMITS_S = [days * DAY_S for days in (7, 30, 90, 180, 365, 730)]
BASES = ("atime", "mtime", "ctime")
TOTALS = (
    "files", "directories", "size_bytes", "alloc_bytes",
    "files_all_links", "size_all_bytes", "alloc_all_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Directory:
    """A directory and what is directly in it that is no directory."""

    path: bytes
    root: bytes
    status: os.stat_result
    entries: list[tuple[bytes, os.stat_result]]

    def itself_and_above(self) -> Iterator[bytes]:
        path = self.path
        while path != self.root:
            yield path
            path = os.path.dirname(path)
        yield path


@dataclass
class RollUps:
    """Every figure of one scan, by what identifies it; zeros are left out."""

    usage: dict[tuple[str, int, int], Counter[str]] = field(default_factory=dict)
    directory: dict[bytes, Counter[str]] = field(default_factory=dict)
    newest: dict[bytes, tuple[int | None, ...]] = field(default_factory=dict)
    project_of: dict[bytes, str] = field(default_factory=dict)
    age: dict[tuple[str, int, str, int], tuple[int, int, int]] = field(default_factory=dict)
    top_file: dict[tuple[str, int], list[tuple[bytes, int, int]]] = field(default_factory=dict)


def directories(roots: Sequence[Path | bytes]) -> list[Directory]:
    """The directories below the roots and on their file systems."""
    found = []
    for root in map(os.fsencode, roots):
        device = os.lstat(root).st_dev
        left = [root]
        while left:
            path = left.pop()
            # No os.walk: it follows symbolic links to see what they are, which reads them.
            listed = [(name, os.lstat(os.path.join(path, name))) for name in os.listdir(path)]
            found.append(
                Directory(path, root, os.lstat(path), [e for e in listed if not is_directory(e[1])])
            )
            left += [
                os.path.join(path, name)
                for name, status in listed
                if is_directory(status) and status.st_dev == device
            ]
    return found


def is_directory(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)


def expected(
    roots: Sequence[Path | bytes],
    projects: Mapping[bytes, str],
    as_of_s: int,
    top_files: int = 100,
    found: list[Directory] | None = None,
) -> RollUps:
    """What a scan has to find, given the path of each project and of each root."""
    found = directories(roots) if found is None else found
    result = RollUps()
    usage: dict[tuple[str, int, int], Counter[str]] = defaultdict(Counter)
    recursive: dict[bytes, Counter[str]] = defaultdict(Counter)
    newest: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    ages: dict[tuple[str, int, str, int], Counter[str]] = defaultdict(Counter)
    files: dict[tuple[str, int], list[tuple[int, bytes, bytes, int]]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    for directory in sorted(found, key=lambda d: d.path):
        above = list(directory.itself_and_above())
        project = next(projects[path] for path in above if path in projects)
        result.project_of[directory.path] = project
        own = blocks(directory.status)
        itself = Counter(directories=1, alloc_bytes=own, alloc_all_bytes=own)
        usage[project, directory.status.st_uid, directory.status.st_gid].update(itself)
        for path in above:
            recursive[path].update(itself)
        for name, status in sorted(directory.entries):
            size, alloc = status.st_size, blocks(status)
            counted = Counter(files_all_links=1, size_all_bytes=size, alloc_all_bytes=alloc)
            if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                counted.update(files=1, size_bytes=size, alloc_bytes=alloc)
                for basis in BASES:
                    index = age_bin(as_of_s - time_s(status, basis))
                    key = (project, status.st_uid, basis, index)
                    ages[key].update(files=1, size_bytes=size, alloc_bytes=alloc)
                files[project, status.st_uid].append((-alloc, directory.path, name, size))
            usage[project, status.st_uid, status.st_gid].update(counted)
            for path in above:
                recursive[path].update(counted)
                newest[path].append(tuple(time_s(status, basis) for basis in BASES))
    result.usage = nonzero(usage)
    result.directory = nonzero(recursive)
    result.newest = {
        path: tuple(map(max, zip(*newest[path], strict=True))) if newest[path] else (None,) * 3
        for path in recursive
    }
    result.age = {key: (c["files"], c["size_bytes"], c["alloc_bytes"]) for key, c in ages.items()}
    result.top_file = {
        key: [
            (os.path.join(path, name), size, -minus_alloc)
            for minus_alloc, path, name, size in sorted(rows)[:top_files]
        ]
        for key, rows in files.items()
    }
    return result


def blocks(status: os.stat_result) -> int:
    return status.st_blocks * 512


def time_s(status: os.stat_result, basis: str) -> int:
    return int(getattr(status, f"st_{basis}_ns") // 1_000_000_000)


def age_bin(age_s: int) -> int:
    return next((i for i, limit in enumerate(AGE_LIMITS_S) if age_s < limit), len(AGE_LIMITS_S))


def nonzero(counters: Mapping[Any, Counter[str]]) -> dict[Any, Counter[str]]:
    return {key: Counter({k: v for k, v in c.items() if v}) for key, c in counters.items()}


def stored(session: orm.Session, scan_id: int) -> RollUps:
    """What the database says about a scan."""

    def rows(table: str) -> list[Row]:
        query = f"""SELECT p.name AS project, t.* FROM {table} t JOIN scan_project p
            ON p.scan_id = t.scan_id AND p.number = t.project_number WHERE t.scan_id = :scan_id"""
        found = session.execute(sa.text(query), {"scan_id": scan_id}).mappings()
        return [{k: bytes(v) if k == "path" else v for k, v in row.items()} for row in found]

    return collected(rows("usage"), rows("directory"), rows("age_bin"), rows("top_file"))


def computed(rollup: Rollup, projects: Sequence[ScanProject], top_files: int = 100) -> RollUps:
    """What an engine makes of the files of a scan, without the database."""
    names = {project.number: project.name for project in projects}

    def rows(expression: Any) -> list[Row]:
        batches = rollup.batches(expression)
        found = [row for batch in batches for row in batch.to_pylist()]
        return [{**row, "project": names[row["project_number"]]} for row in found]

    top = rows(rollup.top_files(top_files))
    for row in top:
        row["path"] = os.path.join(row["path"], row["name"])
    return collected(rows(rollup.usage()), rows(rollup.directories()), rows(rollup.ages()), top)


def collected(usage: list[Row], directory: list[Row], age: list[Row], top: list[Row]) -> RollUps:
    result = RollUps()
    result.usage = nonzero({(r["project"], r["uid"], r["gid"]): totals(r) for r in usage})
    result.directory = nonzero({r["path"]: totals(r) for r in directory})
    assert len(result.directory) == len(directory), "a directory is listed twice"
    for r in directory:
        result.newest[r["path"]] = tuple(r[f"newest_{basis}_s"] for basis in BASES)
        result.project_of[r["path"]] = r["project"]
    for r in age:
        if r["files"]:
            key = r["project"], r["uid"], r["basis"], r["bin"]
            result.age[key] = r["files"], r["size_bytes"], r["alloc_bytes"]
    ranked: dict[tuple[str, int], list[tuple[int, bytes, bytes, int]]] = defaultdict(list)
    for r in top:
        head, name = os.path.split(r["path"])
        ranked[r["project"], r["uid"]].append((-r["alloc_bytes"], head, name, r["size_bytes"]))
    for owner, files in ranked.items():
        result.top_file[owner] = [(os.path.join(h, n), s, -a) for a, h, n, s in sorted(files)]
    return result


def totals(row: Row) -> Counter[str]:
    return Counter({name: row[name] for name in TOTALS})
