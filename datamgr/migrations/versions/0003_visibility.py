"""Who may see which directories: the rules of each scan, and which one a directory has.

Scans that were published before have none, so their directories are for staff only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "access_rule",
        sa.Column("scan_id", sa.BigInteger(), nullable=False),
        sa.Column("access_id", sa.BigInteger(), nullable=False),
        sa.Column("requirement", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scan.id"], name=op.f("fk_access_rule_scan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scan_id", "access_id", name=op.f("pk_access_rule")),
    )
    op.add_column("directory", sa.Column("access_id", sa.BigInteger(), nullable=True))
    op.add_column("top_file", sa.Column("access_id", sa.BigInteger(), nullable=True))
