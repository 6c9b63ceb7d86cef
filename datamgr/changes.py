"""Whether anything of projects, members or scans changed: a ledger kept by triggers.

What was made of them may be used again as long as the ledger reads the same.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.db import Base


class Change(Base):
    """One statement that may have changed something; nobody reads more of it than its number."""

    __tablename__ = "change"

    id: orm.Mapped[int] = orm.mapped_column(
        sa.BigInteger, sa.Identity(always=True), primary_key=True
    )
    at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())


def version(session: orm.Session) -> str:
    """The changes that this transaction sees and that are kept, about a hundred.

    Each transaction that changes something adds a number that no other one has, so two equal
    versions are of equal tables; a transaction that ends after a younger one still makes another
    version, which the newest number alone would not.
    """
    return session.scalar(_VERSION) or ""


_VERSION = sa.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM change")
