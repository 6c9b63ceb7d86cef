"""Tables of tiering: files, their versions, the containers that hold copies, work under way."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr.db import Base, Uint64

DISK, BOTH, ARCHIVE = "G", "B", "H"
WRITING, VERIFIED = "writing", "verified"


class TierFile(Base):
    """A file that has been archived; which one it is, its inode says, wherever it is now.

    `path` is relative to the root and was true when it was last looked at. `version_id` is the
    version that the state speaks of; whether the disk still has it is asked of the disk.
    """

    __tablename__ = "tier_file"
    __table_args__ = (
        sa.UniqueConstraint("filesystem", "inode", "generation", name="uq_tier_file_identity"),
        sa.CheckConstraint("state IN ('G', 'B', 'H')", name="state"),
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    root: orm.Mapped[str]
    filesystem: orm.Mapped[str]
    inode: orm.Mapped[int] = orm.mapped_column(Uint64)
    generation: orm.Mapped[int]
    path: orm.Mapped[bytes]
    state: orm.Mapped[str]
    version_id: orm.Mapped[int | None]


class TierVersion(Base):
    """A content of a file. `ctime_ns` is when it was last known to be on disk unchanged.

    `extents` are offsets and lengths of the data of a sparse file; `sha256` and `adler32` are of
    what a container holds of it.
    """

    __tablename__ = "tier_version"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    file_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("tier_file.id", ondelete="CASCADE"), index=True
    )
    size_bytes: orm.Mapped[int]
    mtime_ns: orm.Mapped[int]
    ctime_ns: orm.Mapped[int]
    extents: orm.Mapped[list[list[int]] | None] = orm.mapped_column(
        postgresql.JSONB(none_as_null=True)
    )
    sha256: orm.Mapped[bytes]
    adler32: orm.Mapped[int]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())


class TierContainer(Base):
    """An object of the archive; until it is `verified`, no file has a copy in it."""

    __tablename__ = "tier_container"
    __table_args__ = (
        sa.UniqueConstraint("root", "key", name="uq_tier_container_key"),
        sa.CheckConstraint("state IN ('writing', 'verified')", name="state"),
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    root: orm.Mapped[str]
    key: orm.Mapped[str]
    state: orm.Mapped[str]
    size_bytes: orm.Mapped[int | None]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    verified_at: orm.Mapped[datetime | None]


class TierCopy(Base):
    """Where a container holds a version: a range of its bytes."""

    __tablename__ = "tier_copy"

    version_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("tier_version.id", ondelete="CASCADE"), primary_key=True
    )
    container_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("tier_container.id"), primary_key=True, index=True
    )
    offset_bytes: orm.Mapped[int]
    stored_bytes: orm.Mapped[int]


class TierOperation(Base):
    """The journal: what is being done to a file, and the last step that was begun.

    A step is committed before it is done, so that a crash leaves a row that says what may have
    happened. `detail` is what the file was before.
    """

    __tablename__ = "tier_operation"
    __table_args__ = (
        sa.CheckConstraint("action IN ('punch', 'stage')", name="action"),
        sa.CheckConstraint(
            "step IN ('intended', 'punching', 'filling', 'filled', 'done', 'undone')", name="step"
        ),
        sa.Index(
            "uq_tier_operation_unfinished",
            "file_id",
            unique=True,
            postgresql_where=sa.text("finished_at IS NULL"),
        ),
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    file_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("tier_file.id", ondelete="CASCADE"))
    action: orm.Mapped[str]
    step: orm.Mapped[str]
    detail: orm.Mapped[dict[str, Any]] = orm.mapped_column(postgresql.JSONB)
    started_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    finished_at: orm.Mapped[datetime | None]
