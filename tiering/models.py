"""Tables of tiering: files, their versions, the containers that hold copies, work under way."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr.db import Base, Uint64

DISK, BOTH, ARCHIVE = "G", "B", "H"
ROOT_LOCK = 0x74696572  # "tier" in ASCII: advisory locks of (this, hash of a root's name)
JOURNAL_LOCK = 0x746A726E  # "tjrn": the same, for who is about to write to a root's journal
WRITING, VERIFIED = "writing", "verified"


class TierFile(Base):
    """A file that has been archived; which one it is, its inode says, wherever it is now.

    `path` is relative to the root and was true when it was last looked at. `version_id` is the
    version that the state speaks of; whether the disk still has it is asked of the disk.
    `deleted_at`: no name below the root leads to it since then. `pinned_until`: it is not punched
    before; `locked_by`: who made it immutable. `uid`: of whom it was when it was put.
    """

    __tablename__ = "tier_file"
    __table_args__ = (
        sa.UniqueConstraint("filesystem", "inode", "generation", name="uq_tier_file_identity"),
        sa.CheckConstraint("state IN ('G', 'B', 'H')", name="state"),
        sa.Index("ix_tier_file_root_path", "root", "path"),
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    root: orm.Mapped[str]
    filesystem: orm.Mapped[str]
    inode: orm.Mapped[int] = orm.mapped_column(Uint64)
    generation: orm.Mapped[int]
    path: orm.Mapped[bytes]
    state: orm.Mapped[str]
    version_id: orm.Mapped[int | None]
    pinned_until: orm.Mapped[datetime | None]
    pinned_by: orm.Mapped[str | None]
    locked_by: orm.Mapped[str | None]
    deleted_at: orm.Mapped[datetime | None]
    uid: orm.Mapped[int | None]


class TierVersion(Base):
    """A content of a file. `ctime_ns` is when it was last known to be on disk unchanged.

    `extents` are offsets and lengths of the data of a sparse file; `sha256`, `adler32` and `crc32c`
    are of what a container holds of it; of early versions there is no `crc32c`.
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
    crc32c: orm.Mapped[int | None]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())


class TierContainer(Base):
    """An object of the archive; until it is `verified`, no file has a copy in it.

    `files`: of how many it got copies; without any it holds directories and links. `volume` and
    `position` are where it was when its store was last asked, where that has volumes.
    """

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
    files: orm.Mapped[int] = orm.mapped_column(server_default="0")
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    verified_at: orm.Mapped[datetime | None]
    volume: orm.Mapped[str | None]
    position: orm.Mapped[list[int] | None] = orm.mapped_column(postgresql.ARRAY(sa.BigInteger))


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
    """The journal: what is being done to some files, and the last step that was begun.

    A step is committed before it is done, so that a crash leaves a row that says what may have
    happened. `files`: the numbers of those of which it is not known yet how it ended, and of all
    when it has; `marks`: of each what it was before, as in the attribute of a stub.
    """

    __tablename__ = "tier_operation"
    __table_args__ = (
        sa.CheckConstraint("action IN ('punch', 'stage')", name="action"),
        sa.CheckConstraint(
            "step IN ('intended', 'punching', 'filling', 'filled', 'done', 'undone')", name="step"
        ),
        sa.Index(
            "ix_tier_operation_unfinished",
            "root",
            postgresql_where=sa.text("finished_at IS NULL"),
        ),
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    root: orm.Mapped[str]
    action: orm.Mapped[str]
    step: orm.Mapped[str]
    files: orm.Mapped[list[int]] = orm.mapped_column(postgresql.ARRAY(sa.BigInteger))
    marks: orm.Mapped[list[bytes]] = orm.mapped_column(postgresql.ARRAY(sa.LargeBinary))
    started_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    finished_at: orm.Mapped[datetime | None]


class TierRequestPath(Base):
    """What a request is about: a path relative to the root, in the order given."""

    __tablename__ = "tier_request_path"

    task_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("task.id", ondelete="CASCADE"), primary_key=True
    )
    position: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    path: orm.Mapped[bytes]


class TierFailure(Base):
    """A file with which a request could not do what was asked, and why."""

    __tablename__ = "tier_failure"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    task_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("task.id", ondelete="CASCADE"), index=True
    )
    path: orm.Mapped[bytes]
    reason: orm.Mapped[str]


# What is at B and at H in each directory, without those in it: the sum of its rows, of which
# triggers of `tier_file` add one for each change. `folder` is relative to the root and ends with a
# slash, or is empty.
tier_amount = sa.Table(
    "tier_amount",
    Base.metadata,
    sa.Column("root", sa.String, nullable=False),
    sa.Column("folder", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.Numeric, nullable=False),
    sa.Index(
        "ix_tier_amount_root_folder",
        "root",
        "folder",
        postgresql_include=["state", "files", "bytes"],
    ),
)
