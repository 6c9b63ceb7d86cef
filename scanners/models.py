"""Tables of the scanners: scans, and per published scan the roll-ups that answer questions."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr.db import Base


class ScanState(StrEnum):
    """How far a scan came. Only published scans answer questions."""

    WALKING = "walking"
    WALKED = "walked"
    PUBLISHED = "published"
    FAILED = "failed"


class Scan(Base):
    """One scan of a file system; the newest published one is the current one.

    `errors` counts by reason (see `record.REASONS`), `timings_s` the seconds of each step.
    """

    __tablename__ = "scan"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    filesystem_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("filesystem.id"), index=True)
    state: orm.Mapped[str] = orm.mapped_column(
        sa.CheckConstraint("state IN ('walking', 'walked', 'published', 'failed')", name="state")
    )
    source: orm.Mapped[str]
    host: orm.Mapped[str]
    roots: orm.Mapped[list[bytes]] = orm.mapped_column(postgresql.ARRAY(sa.LargeBinary))
    started_at: orm.Mapped[datetime]
    finished_at: orm.Mapped[datetime | None]
    published_at: orm.Mapped[datetime | None]
    entries: orm.Mapped[int | None]
    directories: orm.Mapped[int | None]
    errors: orm.Mapped[dict[str, int]] = orm.mapped_column(postgresql.JSONB)
    failure: orm.Mapped[str | None]
    atime_policy: orm.Mapped[str]
    timings_s: orm.Mapped[dict[str, Any]] = orm.mapped_column(postgresql.JSONB)


def _scan_id() -> sa.Column[Any]:
    return sa.Column(
        "scan_id", sa.BigInteger, sa.ForeignKey("scan.id", ondelete="CASCADE"), nullable=False
    )


def _big(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


# Hard links are counted once, at their smallest path; the columns named `_all_` count every link.
_TOTALS = ("files", "directories", "size_bytes", "alloc_bytes")
_ALL_LINKS = ("files_all_links", "size_all_bytes", "alloc_all_bytes")


def _totals() -> list[sa.Column[Any]]:
    return [_big(name) for name in (*_TOTALS, *_ALL_LINKS)]


# The projects as they were at the scan. Number 0 is what belongs to none.
scan_project = sa.Table(
    "scan_project",
    Base.metadata,
    _scan_id(),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("path", sa.LargeBinary, nullable=True),
    sa.Column(
        "project_id",
        sa.BigInteger,
        sa.ForeignKey("project.id", ondelete="SET NULL"),
        nullable=True,
        index=True,
    ),
    sa.PrimaryKeyConstraint("scan_id", "number"),
)

# Totals by project, user and group; alloc_bytes includes the directories' own blocks.
usage = sa.Table(
    "usage",
    Base.metadata,
    _scan_id(),
    _big("project_number"),
    _big("uid"),
    _big("gid"),
    *_totals(),
    sa.PrimaryKeyConstraint("scan_id", "project_number", "uid", "gid"),
)

# Every directory with the totals of everything below it, itself included. A partition a scan:
# loading touches no other rows and removing a scan drops a table. `newest_*` are over the files
# below, NULL where there are none.
directory = sa.Table(
    "directory",
    Base.metadata,
    sa.Column("scan_id", sa.BigInteger, nullable=False),
    _big("dir_id"),
    _big("parent_id", nullable=True),
    _big("project_number"),
    sa.Column("depth", sa.Integer, nullable=False),
    sa.Column("path", sa.LargeBinary, nullable=False),
    sa.Column("mode", sa.Integer, nullable=False),
    _big("uid"),
    _big("gid"),
    _big("mtime_s"),
    sa.Column("error", sa.Text, nullable=True),
    *_totals(),
    _big("newest_atime_s", nullable=True),
    _big("newest_mtime_s", nullable=True),
    _big("newest_ctime_s", nullable=True),
    _big("access_id", nullable=True),
    # A hash index, because a path may be longer than a B-tree's key.
    sa.Index("ix_directory_path", "path", postgresql_using="hash"),
    sa.Index("ix_directory_parent_id", "parent_id"),
    sa.Index("ix_directory_size", "project_number", sa.text("alloc_bytes DESC")),
    postgresql_partition_by="LIST (scan_id)",
)

# What somebody must be to list directories, see `scanners.access`. Directories without a rule, and
# the files in them, are for staff only.
access_rule = sa.Table(
    "access_rule",
    Base.metadata,
    _scan_id(),
    _big("access_id"),
    sa.Column("requirement", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("scan_id", "access_id"),
)

# The biggest files by project and owner, by allocated bytes; hard links once.
top_file = sa.Table(
    "top_file",
    Base.metadata,
    _scan_id(),
    _big("project_number"),
    _big("uid"),
    _big("gid"),
    sa.Column("path", sa.LargeBinary, nullable=False),
    _big("size_bytes"),
    _big("alloc_bytes"),
    _big("nlink"),
    _big("atime_s"),
    _big("mtime_s"),
    _big("ctime_s"),
    _big("access_id", nullable=True),
    sa.Index("ix_top_file_project", "scan_id", "project_number", sa.text("alloc_bytes DESC")),
)

# Files by age: `basis` is atime, mtime or ctime, `bin` an index of ages.BINS.
age_bin = sa.Table(
    "age_bin",
    Base.metadata,
    _scan_id(),
    _big("project_number"),
    _big("uid"),
    sa.Column("basis", sa.Text, nullable=False),
    sa.Column("bin", sa.BigInteger, nullable=False),
    _big("files"),
    _big("size_bytes"),
    _big("alloc_bytes"),
    sa.PrimaryKeyConstraint("scan_id", "project_number", "uid", "basis", "bin"),
)

# One row a project and published scan, kept for ever, also when the scan is removed.
project_history = sa.Table(
    "project_history",
    Base.metadata,
    _big("scan_id"),
    sa.Column("filesystem", sa.Text, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("scanned_at", sa.DateTime(timezone=True), nullable=False),
    *_totals(),
    sa.Column("quota_bytes", sa.BigInteger, nullable=True),
    sa.Column("quota_inodes", sa.BigInteger, nullable=True),
    sa.PrimaryKeyConstraint("scan_id", "project"),
    sa.Index("ix_project_history_project_scanned_at", "project", "scanned_at"),
)
