"""Synthetic scan stores of realistic shape, without the files they speak of."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from datamgr import catalog, db
from datamgr.db import Database
from scanners import access, parts, record
from scanners.models import Scan, ScanState
from scanners.store import Manifest, ScanStore

FILES_PER_DIRECTORY = 30
PROJECTS, USERS, GROUPS = 60, 400, 60
HARD_LINKED = 0.01
PRIVATE = 0.1
YEAR_S = 365 * 86400


@dataclass(frozen=True)
class Shape:
    """How many of what a store has.

    `gids`: the groups of the first projects. `members`: how many accounts own a project's files,
    each of them whole subtrees; 0 for accounts that take turns. `crowded`: a directory, and how
    many files it has beside its share.
    """

    directories: int
    files: int
    projects: int = PROJECTS
    gids: Sequence[int] = ()
    members: int = 0
    crowded: tuple[int, int] | None = None

    @property
    def each(self) -> int:
        """How many directories a project has; those of the first follow the root."""
        return -(-(self.directories - 1) // self.projects)

    def top(self, project: int) -> int:
        """The number of the directory that is a project's top; projects count from 0."""
        return 2 + project * self.each

    def gid(self, project: int) -> int:
        """The group of a project."""
        return self.gids[project] if project < len(self.gids) else 20_000 + project

    def member(self, project: int, number: int) -> int:
        """An account that owns directories of a project."""
        return 10_000 + (project * 7 + number % self.members) % 5000


def register(database: Database, filesystem: str) -> int:
    """The row of a complete scan, whose files are still to be made; returns its number."""
    with database.transaction() as session:
        new = Scan(
            filesystem_id=catalog.ensure_filesystem(session, filesystem).id,
            state=ScanState.WALKED,
            source="walk",
            host="",
            roots=[b"/synth"],
            started_at=db.utc_now(),
            errors={},
            atime_policy="relatime",
            timings_s={},
        )
        session.add(new)
        session.flush()
        return new.id


def make(store_dir: Path, filesystem: str, scan_id: int, entries: int, seed: int = 1) -> None:
    """A complete scan: 30 files a directory, depth 5 to 12, Pareto sizes, 1 % hard links."""
    directories = max(entries // (FILES_PER_DIRECTORY + 1), PROJECTS + 1)
    make_shaped(store_dir, filesystem, scan_id, Shape(directories, entries - directories), seed)


def make_shaped(
    store_dir: Path, filesystem: str, scan_id: int, shape: Shape, seed: int = 1
) -> None:
    """A complete scan of this shape; the directories are the same whatever the seed."""
    store = ScanStore(store_dir, filesystem)
    partial = store.begin(scan_id)
    _write_dirs(partial, shape, np.random.default_rng(1))
    _write_entries(partial, shape, np.random.default_rng(seed))
    now = datetime.now(UTC)
    manifest = Manifest(
        filesystem=filesystem,
        scan_id=scan_id,
        source="walk",
        host=socket.gethostname(),
        roots_b64=("L3N5bnRo",),  # /synth
        started_at=now,
        finished_at=now,
        entries=shape.files,
        directories=shape.directories,
        errors={},
        atime_policy="relatime",
    )
    store.complete(scan_id, manifest)


def _write_dirs(partial: Path, shape: Shape, chance: np.random.Generator) -> None:
    """Directory 1 is the root. As in a walk, all of a project follow its top, one after another.

    A project is its group's; its directories are one of 10 accounts' and a tenth of them private.
    """
    directories, each = shape.directories, shape.each
    parents = np.zeros(directories + 1, np.int64)
    owners = np.zeros(directories + 1, np.int64)
    groups = np.zeros(directories + 1, np.int64)
    paths: list[bytes] = [b"", b"/synth"]
    ancestors: list[list[int]] = [[], [1]]
    accesses = ["", ""]
    back = chance.integers(1, 40, directories + 1)
    private = chance.random(directories + 1) < PRIVATE
    for number in range(2, directories + 1):
        project, place = divmod(number - 2, each)
        parent = max(number - place, number - int(back[number])) if place else 1
        while len(ancestors[parent]) > 12:
            parent = int(parents[parent])
        parents[number] = parent
        paths.append(paths[parent] + b"/dir-%06x" % number)
        ancestors.append([*ancestors[parent], number])
        owner, mode = 10_000 + number % 10, 0o700 if place and private[number] else 0o2770
        above, level = accesses[parent], len(ancestors[number])
        if shape.members:
            owner = shape.member(project, number) if level < 4 else int(owners[parent])
        owners[number], groups[number] = owner, shape.gid(project)
        accesses.append(access.extended(above, level, owner, shape.gid(project), mode))
    writer = parts.PartWriter(partial, "dirs", 0)
    for begin in range(1, directories + 1, parts.ROW_GROUP_ROWS):
        end = min(begin + parts.ROW_GROUP_ROWS, directories + 1)
        rows = end - begin
        parent_ids = pa.array(
            [None if n == 1 else int(parents[n]) for n in range(begin, end)], pa.int64()
        )
        depths = pa.array([len(a) - 1 for a in ancestors[begin:end]], pa.int32())
        owned = (owners[begin:end], groups[begin:end]) if shape.members else None
        writer.write(
            [
                pa.array(np.arange(begin, end), pa.int64()),
                parent_ids,
                pa.array(paths[begin:end], pa.binary()),
                depths,
                pa.array(ancestors[begin:end], pa.list_(pa.int64())),
                pa.nulls(rows, pa.string()),
                pa.array(accesses[begin:end], pa.string()),
                *_inodes(rows, chance, 0o040755, begin, np.full(rows, 4096), owned),
            ]
        )
    writer.close()


def _write_entries(partial: Path, shape: Shape, chance: np.random.Generator) -> None:
    directories, files = shape.directories, shape.files
    directory, more = shape.crowded or (0, 0)
    spread = 1 + np.arange(files - more) * directories // (files - more)
    dir_ids = np.insert(spread, np.searchsorted(spread, directory), np.full(more, directory))
    writer = parts.PartWriter(partial, "entries", 0)
    for begin in range(0, files, parts.ROW_GROUP_ROWS):
        rows = min(parts.ROW_GROUP_ROWS, files - begin)
        within = dir_ids[begin : begin + rows]
        sizes = np.minimum(2000 * chance.pareto(0.9, rows), 1e13).astype(np.int64)
        owned = None
        if shape.members:
            projects = np.maximum(within - 2, 0) // shape.each
            turns = chance.integers(0, shape.members, rows)
            group_of = np.array([shape.gid(project) for project in range(shape.projects)])
            owned = (10_000 + (projects * 7 + turns) % 5000, group_of[projects])
        writer.write(
            [
                pa.array(within, pa.int64()),
                pa.array([b"result-%08d.h5" % n for n in range(begin, begin + rows)], pa.binary()),
                pa.array(["f"]).take(pa.array(np.zeros(rows, np.int64))),
                *_inodes(rows, chance, 0o100644, directories + begin + 1, sizes, owned),
            ]
        )
    writer.close()


def _inodes(
    rows: int,
    chance: np.random.Generator,
    mode: int,
    first: int,
    sizes: np.ndarray,
    owned: tuple[np.ndarray, np.ndarray] | None,
) -> list[pa.Array]:
    """The columns that all inodes have; `owned` has their accounts and groups."""
    now = int(time.time())
    ages = np.sort(chance.integers(0, 4 * YEAR_S, (3, rows)), axis=0)
    inodes = first + np.arange(rows)
    linked = chance.random(rows) < HARD_LINKED if mode & 0o100000 else np.zeros(rows, bool)
    # Linked names come in pairs: odd ones share the inode of the name before them.
    inodes = np.where(linked, inodes & ~np.int64(1), inodes)
    users = 10_000 + (first // 5000 + chance.integers(0, 3, rows)) % USERS
    groups = np.full(rows, 20_000 + first // 20_000 % GROUPS)
    if owned is not None:
        users, groups = owned
    columns = [
        np.full(rows, mode),
        inodes,
        np.full(rows, 2049),
        np.where(linked, 2, 1),
        users,
        groups,
        sizes,
        now - ages[0],
        now - ages[1],
        now - ages[2],
        (sizes + 4095) // 4096 * 4096,
    ]
    types = [field.type for field in record.ENTRIES][3:]
    return [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
