"""Tables of permission requests: what is about to change, what was done, what was left alone.

A request itself is a row of `task`. Everything here is only ever added to: triggers of the
migration refuse anything else to all roles but the owner of the tables.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.db import Base, Uint64

WRITTEN, APPLIED = "written", "applied"
SKIPPED, FAILED = "skipped", "failed"


class PermBatch(Base):
    """Changes that are written down together: `written` before they are made, `applied` after."""

    __tablename__ = "perm_batch"
    __table_args__ = (sa.CheckConstraint("state IN ('written', 'applied')", name="state"),)

    task_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("task.id"), primary_key=True)
    batch: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    state: orm.Mapped[str]
    at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())


class PermChange(Base):
    """One entry before and after; `path` is relative to the project, an ACL hexadecimal.

    No foreign key: half a million rows of one request would each look their batch up.
    """

    __tablename__ = "perm_change"

    task_id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    batch: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    number: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    path: orm.Mapped[bytes]
    kind: orm.Mapped[str]
    device: orm.Mapped[int] = orm.mapped_column(Uint64)
    inode: orm.Mapped[int] = orm.mapped_column(Uint64)
    before_uid: orm.Mapped[int]
    before_gid: orm.Mapped[int]
    before_mode: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    before_acl: orm.Mapped[str | None]
    after_uid: orm.Mapped[int]
    after_gid: orm.Mapped[int]
    after_mode: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    after_acl: orm.Mapped[str | None]


class PermUnapplied(Base):
    """A change that was written down and then not made, as an issue of its path says."""

    __tablename__ = "perm_unapplied"

    task_id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    batch: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    number: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)


class PermIssue(Base):
    """An entry that a request left as it is: `skipped` by policy, or `failed`.

    Once per path (by its SHA-256: a path may be longer than an index takes), for a request that
    is resumed meets it again.
    """

    __tablename__ = "perm_issue"
    __table_args__ = (sa.CheckConstraint("kind IN ('skipped', 'failed')", name="kind"),)

    task_id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    path_hash: orm.Mapped[bytes] = orm.mapped_column(primary_key=True)
    path: orm.Mapped[bytes]
    kind: orm.Mapped[str]
    reason: orm.Mapped[str]
