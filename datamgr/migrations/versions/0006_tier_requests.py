"""Tiering: pins, locks and deletions of files, requests and their failures."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name, type_ in (
        ("pinned_until", sa.DateTime(timezone=True)),
        ("pinned_by", sa.Text()),
        ("locked_by", sa.Text()),
        ("deleted_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("tier_file", sa.Column(name, type_, nullable=True))
    op.create_index("ix_tier_file_root_path", "tier_file", ["root", "path"])
    op.add_column(
        "tier_container",
        sa.Column("files", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.execute(
        "UPDATE tier_container c SET files ="
        " (SELECT count(*) FROM tier_copy p WHERE p.container_id = c.id)"
    )
    op.create_table(
        "tier_request_path",
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["task.id"],
            name=op.f("fk_tier_request_path_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", "position", name=op.f("pk_tier_request_path")),
    )
    op.create_table(
        "tier_failure",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["task.id"], name=op.f("fk_tier_failure_task_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tier_failure")),
    )
    op.create_index(op.f("ix_tier_failure_task_id"), "tier_failure", ["task_id"])
