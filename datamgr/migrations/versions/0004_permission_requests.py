"""Permission requests: their journal, what they left alone, and the pinned roots of projects.

What was written stays: journal, issues, audit and ended tasks take no update, delete or truncate
from anybody but the owner of the tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Rights of the caller, and no search path of the caller's: the function only compares names.
_REFUSE = """
CREATE FUNCTION refuse_unless_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF current_user <> (
        SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID
    ) THEN
        RAISE EXCEPTION 'rows of % stay as they are: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        RETURN NEW;
    END IF;
    RETURN OLD;
END $$
"""

_GUARDS = """
CREATE TRIGGER {table}_rows_stay BEFORE {rows} ON {table}
    FOR EACH ROW EXECUTE FUNCTION refuse_unless_owner();
CREATE TRIGGER {table}_stays BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unless_owner();
"""

# A batch goes from written to applied, and nothing else of it changes.
_BATCH_UPDATE = """
CREATE TRIGGER perm_batch_goes_on BEFORE UPDATE ON perm_batch
    FOR EACH ROW
    WHEN (
        OLD.state <> 'written' OR NEW.state <> 'applied'
        OR (OLD.task_id, OLD.batch, OLD.at) IS DISTINCT FROM (NEW.task_id, NEW.batch, NEW.at)
    )
    EXECUTE FUNCTION refuse_unless_owner();
"""

# A task that has ended is history.
_TASK = """
CREATE TRIGGER task_stays_ended BEFORE UPDATE OR DELETE ON task
    FOR EACH ROW WHEN (OLD.state IN ('succeeded', 'partial', 'failed', 'cancelled'))
    EXECUTE FUNCTION refuse_unless_owner();
CREATE TRIGGER task_stays BEFORE TRUNCATE ON task
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unless_owner();
"""


def upgrade() -> None:
    for name in ("root_device", "root_inode"):
        op.add_column("project", sa.Column(name, sa.Numeric(20, 0), nullable=True))
    op.add_column("project", sa.Column("root_born_ns", sa.BigInteger(), nullable=True))
    op.create_table(
        "perm_batch",
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("state IN ('written', 'applied')", name=op.f("ck_perm_batch_state")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_perm_batch_task_id")),
        sa.PrimaryKeyConstraint("task_id", "batch", name=op.f("pk_perm_batch")),
    )
    op.create_table(
        "perm_change",
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device", sa.Numeric(20, 0), nullable=False),
        sa.Column("inode", sa.Numeric(20, 0), nullable=False),
        sa.Column("before_uid", sa.BigInteger(), nullable=False),
        sa.Column("before_gid", sa.BigInteger(), nullable=False),
        sa.Column("before_mode", sa.Integer(), nullable=False),
        sa.Column("before_acl", sa.Text(), nullable=True),
        sa.Column("after_uid", sa.BigInteger(), nullable=False),
        sa.Column("after_gid", sa.BigInteger(), nullable=False),
        sa.Column("after_mode", sa.Integer(), nullable=False),
        sa.Column("after_acl", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "batch", "number", name=op.f("pk_perm_change")),
    )
    op.create_table(
        "perm_issue",
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("path_hash", sa.LargeBinary(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('skipped', 'failed')", name=op.f("ck_perm_issue_kind")),
        sa.PrimaryKeyConstraint("task_id", "path_hash", name=op.f("pk_perm_issue")),
    )
    op.create_table(
        "perm_unapplied",
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "batch", "number", name=op.f("pk_perm_unapplied")),
    )
    # Which key was served longest ago.
    op.create_index("ix_task_key_started_at", "task", ["key", "started_at"], unique=False)
    op.execute(_REFUSE)
    for table in ("perm_change", "perm_unapplied", "perm_issue", "audit_event"):
        op.execute(_GUARDS.format(table=table, rows="UPDATE OR DELETE"))
    op.execute(_GUARDS.format(table="perm_batch", rows="DELETE"))
    op.execute(_BATCH_UPDATE)
    op.execute(_TASK)
