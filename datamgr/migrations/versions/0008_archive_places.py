"""Where containers are on tapes, and one more checksum of what they hold."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tier_container", sa.Column("volume", sa.Text(), nullable=True))
    op.add_column(
        "tier_container", sa.Column("position", postgresql.ARRAY(sa.BigInteger()), nullable=True)
    )
    op.add_column("tier_version", sa.Column("crc32c", sa.BigInteger(), nullable=True))
