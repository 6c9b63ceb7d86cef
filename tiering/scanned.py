"""The state of files that a scan has listed, for pages that show the scan: nothing is asked of the
disk, so that a file is the archived one if it looks as it did then."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.config_tier import TierSettings
from tiering import models

_MASK = 2**64 - 1


@dataclass(frozen=True)
class Managed:
    """The managed root that a path lies in; `top` is its directory."""

    name: str
    top: bytes

    def holds(self, path: bytes) -> bool:
        """Whether a path is in it."""
        return path == self.top or path.startswith(self.top.rstrip(b"/") + b"/")

    def relative(self, path: bytes) -> bytes:
        """What a path in it is called there."""
        return b"." if path == self.top else os.path.relpath(path, self.top)


@dataclass(frozen=True)
class File:
    """A regular file as a scan saw it; `path` is relative to the root."""

    path: bytes
    inode: int
    size_bytes: int
    mtime_s: int


@dataclass(frozen=True)
class State:
    """A letter as of `ghi ls`, and what else is to be known."""

    letter: str
    changed: bool = False
    pinned: bool = False
    locked: bool = False
    busy: bool = False


ON_DISK = State(models.DISK)


def root_of(tiers: Mapping[str, TierSettings], path: bytes) -> Managed | None:
    """The managed root of a path, by name alone: links on the way are not followed."""
    roots = (Managed(name, os.fsencode(tier.root)) for name, tier in tiers.items())
    return max((r for r in roots if r.holds(path)), key=lambda r: len(r.top), default=None)


def states(
    session: orm.Session, root: str, files: Sequence[File], scanned_at: datetime
) -> list[State]:
    """The states of files in the order given, by one query over their inodes."""
    inodes = [file.inode & _MASK for file in files]
    found = session.execute(_KNOWN, {"root": root, "inodes": inodes})
    known = {int(row.inode): row for row in found}
    return [
        _state(known.get(inode), file, scanned_at)
        for inode, file in zip(inodes, files, strict=True)
    ]


# The files of a root lie on one file system, by which and the inode they are found.
_KNOWN = sa.text(
    """
    SELECT DISTINCT ON (f.inode)
        f.inode, f.path, f.state, v.size_bytes, v.mtime_ns, v.created_at,
        coalesce(f.pinned_until > now(), false) AS pinned, f.locked_by IS NOT NULL AS locked,
        EXISTS (
            SELECT FROM tier_operation o
            WHERE o.root = :root AND o.finished_at IS NULL AND f.id = ANY(o.files)
        ) AS busy
    FROM tier_file f LEFT JOIN tier_version v ON v.id = f.version_id
    WHERE f.filesystem = (
            SELECT filesystem FROM tier_file WHERE root = :root AND deleted_at IS NULL LIMIT 1
        )
        AND f.inode = ANY(cast(:inodes AS numeric[])) AND f.root = :root AND f.deleted_at IS NULL
    ORDER BY f.inode, f.id DESC
    """
)


def _state(row: "sa.Row[tuple[object, ...]] | None", file: File, scanned_at: datetime) -> State:
    if row is None:
        return ON_DISK
    letter, changed = row.state, False
    is_same = (row.size_bytes, (row.mtime_ns or 0) // 10**9) == (file.size_bytes, file.mtime_s)
    # Written and archived since the scan, it looks otherwise and is archived all the same.
    is_newer = row.created_at is not None and row.created_at >= scanned_at
    if not is_same and not (is_newer and bytes(row.path) == file.path):
        letter, changed = models.DISK, row.state == models.BOTH
    return State(letter, changed, row.pinned, row.locked, row.busy)
