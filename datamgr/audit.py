"""Who did what: rows that datamgr writes beside every action that changes or removes something."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr.db import Base
from datamgr.identity import Caller


class AuditEvent(Base):
    """One action, written in the transaction that carries it out."""

    __tablename__ = "audit_event"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now(), index=True)
    actor: orm.Mapped[str]
    actor_uid: orm.Mapped[int]
    action: orm.Mapped[str]
    subject: orm.Mapped[str]
    detail: orm.Mapped[dict[str, Any]] = orm.mapped_column(postgresql.JSONB)


def record(
    session: orm.Session,
    caller: Caller,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note that `caller` did `action` (such as `scan.remove`) to `subject` (such as `scan 3`)."""
    session.add(
        AuditEvent(
            actor=caller.username,
            actor_uid=caller.uid,
            action=action,
            subject=subject,
            detail=dict(detail or {}),
        )
    )
