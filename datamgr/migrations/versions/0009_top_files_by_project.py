"""The biggest files of a project are found without those of the others."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.drop_index("ix_top_file_scan_id_alloc_bytes", table_name="top_file")
    op.create_index(
        "ix_top_file_project",
        "top_file",
        ["scan_id", "project_number", sa.text("alloc_bytes DESC")],
    )
