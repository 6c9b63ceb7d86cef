"""Logins of the web pages: sessions, what is good once, and whom a provider knows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def _at(name: str, *, default: bool) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("now()") if default else None,
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        "web_session",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        _at("created_at", default=True),
        _at("seen_at", default=True),
        _at("expires_at", default=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_web_session_token_hash")),
    )
    op.create_index("ix_web_session_username", "web_session", ["username"], unique=False)
    op.create_table(
        "web_ticket",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        _at("expires_at", default=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_ticket")),
    )
    # Somebody's own requests, among those of everybody.
    op.create_index("ix_task_owner_id", "task", ["owner", "id"], unique=False)
    op.create_table(
        "external_id",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        _at("created_at", default=True),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_external_id")),
    )
