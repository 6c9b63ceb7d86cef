"""The first tables: catalog, tasks, audit, scans and their roll-ups."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_uid", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    op.create_index(op.f("ix_audit_event_at"), "audit_event", ["at"], unique=False)
    op.create_table(
        "directory",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("dir_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("project_number", sa.BigInteger(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("gid", sa.BigInteger(), nullable=False),
        sa.Column("mtime_s", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("directories", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files_all_links", sa.BigInteger(), nullable=False),
        sa.Column("size_all_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_all_bytes", sa.BigInteger(), nullable=False),
        sa.Column("newest_atime_s", sa.BigInteger(), nullable=True),
        sa.Column("newest_mtime_s", sa.BigInteger(), nullable=True),
        sa.Column("newest_ctime_s", sa.BigInteger(), nullable=True),
        postgresql_partition_by="LIST (scan_id)",
    )
    op.create_index("ix_directory_parent_id", "directory", ["parent_id"], unique=False)
    op.create_index(
        "ix_directory_path", "directory", ["path"], unique=False, postgresql_using="hash"
    )
    op.create_index(
        "ix_directory_size",
        "directory",
        ["project_number", sa.literal_column("alloc_bytes DESC")],
        unique=False,
    )
    op.create_table(
        "filesystem",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_filesystem")),
        sa.UniqueConstraint("name", name=op.f("uq_filesystem_name")),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("unix_group", sa.Text(), nullable=True),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("quota_inodes", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("name", name=op.f("uq_project_name")),
        sa.UniqueConstraint("path", name=op.f("uq_project_path")),
    )
    op.create_table(
        "project_history",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("filesystem", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("scanned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("directories", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files_all_links", sa.BigInteger(), nullable=False),
        sa.Column("size_all_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_all_bytes", sa.BigInteger(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("quota_inodes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("scan_id", "project", name=op.f("pk_project_history")),
    )
    op.create_index(
        "ix_project_history_project_scanned_at",
        "project_history",
        ["project", "scanned_at"],
        unique=False,
    )
    op.create_table(
        "task",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("params", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "progress", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column(
            "result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'succeeded', 'partial', 'failed', 'cancelled')",
            name=op.f("ck_task_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    op.create_index(
        "ix_task_queued", "task", ["id"], unique=False, postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index(
        "ix_task_unfinished",
        "task",
        ["key", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running', 'cancelling')"),
    )
    op.create_table(
        "project_member",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
            name=op.f("fk_project_member_project_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "username", name=op.f("pk_project_member")),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("filesystem_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("roots", postgresql.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("entries", sa.BigInteger(), nullable=True),
        sa.Column("directories", sa.BigInteger(), nullable=True),
        sa.Column("errors", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("atime_policy", sa.Text(), nullable=False),
        sa.Column("timings_s", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["filesystem_id"], ["filesystem.id"], name=op.f("fk_scan_filesystem_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scan")),
    )
    op.create_index(op.f("ix_scan_filesystem_id"), "scan", ["filesystem_id"], unique=False)
    op.create_table(
        "age_bin",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("project_number", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("bin", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scan.id"], name=op.f("fk_age_bin_scan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "scan_id", "project_number", "uid", "basis", "bin", name=op.f("pk_age_bin")
        ),
    )
    op.create_table(
        "scan_project",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
            name=op.f("fk_scan_project_project_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scan.id"], name=op.f("fk_scan_project_scan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scan_id", "number", name=op.f("pk_scan_project")),
    )
    op.create_index(
        op.f("ix_scan_project_project_id"), "scan_project", ["project_id"], unique=False
    )
    op.create_table(
        "top_file",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("project_number", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("gid", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_bytes", sa.BigInteger(), nullable=False),
        sa.Column("nlink", sa.BigInteger(), nullable=False),
        sa.Column("atime_s", sa.BigInteger(), nullable=False),
        sa.Column("mtime_s", sa.BigInteger(), nullable=False),
        sa.Column("ctime_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scan.id"], name=op.f("fk_top_file_scan_id"), ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_top_file_scan_id_alloc_bytes", "top_file", ["scan_id", "alloc_bytes"], unique=False
    )
    op.create_table(
        "usage",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("project_number", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("gid", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("directories", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files_all_links", sa.BigInteger(), nullable=False),
        sa.Column("size_all_bytes", sa.BigInteger(), nullable=False),
        sa.Column("alloc_all_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scan.id"], name=op.f("fk_usage_scan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scan_id", "project_number", "uid", "gid", name=op.f("pk_usage")),
    )
