"""Tiering: files by identity, versions, containers, copies, and the journal of work on them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def _at(name: str, *, default: bool) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("now()") if default else None,
        nullable=not default,
    )


def upgrade() -> None:
    op.create_table(
        "tier_file",
        _id(),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("filesystem", sa.Text(), nullable=False),
        sa.Column("inode", sa.Numeric(20, 0), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('G', 'B', 'H')", name=op.f("ck_tier_file_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tier_file")),
        sa.UniqueConstraint("filesystem", "inode", "generation", name="uq_tier_file_identity"),
    )
    op.create_table(
        "tier_version",
        _id(),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("ctime_ns", sa.BigInteger(), nullable=False),
        sa.Column("extents", postgresql.JSONB(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("adler32", sa.BigInteger(), nullable=False),
        _at("created_at", default=True),
        sa.ForeignKeyConstraint(
            ["file_id"], ["tier_file.id"], name=op.f("fk_tier_version_file_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tier_version")),
    )
    op.create_index(op.f("ix_tier_version_file_id"), "tier_version", ["file_id"])
    op.create_table(
        "tier_container",
        _id(),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        _at("created_at", default=True),
        _at("verified_at", default=False),
        sa.CheckConstraint(
            "state IN ('writing', 'verified')", name=op.f("ck_tier_container_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tier_container")),
        sa.UniqueConstraint("root", "key", name="uq_tier_container_key"),
    )
    op.create_table(
        "tier_copy",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("container_id", sa.BigInteger(), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["tier_version.id"],
            name=op.f("fk_tier_copy_version_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["container_id"], ["tier_container.id"], name=op.f("fk_tier_copy_container_id")
        ),
        sa.PrimaryKeyConstraint("version_id", "container_id", name=op.f("pk_tier_copy")),
    )
    op.create_index(op.f("ix_tier_copy_container_id"), "tier_copy", ["container_id"])
    op.create_table(
        "tier_operation",
        _id(),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        _at("started_at", default=True),
        _at("finished_at", default=False),
        sa.CheckConstraint("action IN ('punch', 'stage')", name=op.f("ck_tier_operation_action")),
        sa.CheckConstraint(
            "step IN ('intended', 'punching', 'filling', 'filled', 'done', 'undone')",
            name=op.f("ck_tier_operation_step"),
        ),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["tier_file.id"],
            name=op.f("fk_tier_operation_file_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tier_operation")),
    )
    op.create_index(
        "uq_tier_operation_unfinished",
        "tier_operation",
        ["file_id"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
