"""Whose a file of a managed root is, so that removed ones are shown to their owners alone."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Databases made while this was a part of 0006 have it already."""
    op.execute("ALTER TABLE tier_file ADD COLUMN IF NOT EXISTS uid bigint")


def downgrade() -> None:
    op.drop_column("tier_file", "uid")
