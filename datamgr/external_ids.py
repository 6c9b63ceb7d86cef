"""Which account somebody has whom a provider knows: an explicit list, never a rule about names."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import audit, catalog, identity
from datamgr.db import Base
from datamgr.errors import ConflictError, InvalidError, NotFoundError
from datamgr.identity import Caller


class ExternalId(Base):
    """One person at a provider. Source: OpenID Connect Core 1.0, 2: issuer and subject together."""

    __tablename__ = "external_id"

    issuer: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    subject: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    username: orm.Mapped[str]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())


def map_to(
    session: orm.Session, caller: Caller, issuer: str, subject: str, username: str
) -> ExternalId:
    """Let somebody log in as an account.

    Raises:
        ForbiddenError: the caller is not staff.
        NotFoundError: there is no such account.
        InvalidError: it is root, or issuer or subject are none.
        ConflictError: they are mapped to another account.
    """
    catalog.require_manager(session, caller, "say who is which account")
    if not issuer.startswith(("https://", "http://")) or not subject.strip():
        raise InvalidError("an issuer is an address such as https://cilogon.org, a subject a text")
    # Source: OpenID Connect Core 1.0, 2: a subject has at most 255 characters.
    if len(issuer) > 1000 or len(subject) > 255 or not (issuer + subject).isprintable():
        raise InvalidError("issuer or subject is longer than they are, or cannot be printed")
    if identity.uid_of(username) == 0:
        raise InvalidError("nobody logs in as root; name staff by identity.staff_users")
    name = identity.username_of(identity.uid_of(username))
    found = session.get(ExternalId, (issuer, subject))
    if found is not None and found.username != name:
        raise ConflictError(f"{subject} of {issuer} is {found.username} already; unmap it first")
    if found is None:
        found = ExternalId(issuer=issuer, subject=subject, username=name)
        session.add(found)
        session.flush()
        _record(session, caller, "identity.map", found)
    return found


def unmap(session: orm.Session, caller: Caller, issuer: str, subject: str) -> ExternalId:
    """Let somebody log in no more; sessions that there are go on until they are revoked.

    Raises:
        ForbiddenError: the caller is not staff.
        NotFoundError: they are not mapped.
    """
    catalog.require_manager(session, caller, "say who is which account")
    found = session.get(ExternalId, (issuer, subject))
    if found is None:
        raise NotFoundError(
            f"{subject} of {issuer} is not mapped; `datamgr identity list` names who is"
        )
    session.delete(found)
    _record(session, caller, "identity.unmap", found)
    return found


def list_ids(session: orm.Session, username: str | None = None) -> list[dict[str, Any]]:
    """Who is mapped to which account, by account."""
    wanted = sa.select(ExternalId).order_by(
        ExternalId.username, ExternalId.issuer, ExternalId.subject
    )
    if username is not None:
        wanted = wanted.where(ExternalId.username == username)
    return [row_of(found) for found in session.scalars(wanted)]


def account_of(session: orm.Session, issuer: str, subject: str) -> str | None:
    """The account of somebody, None who has none here."""
    found = session.get(ExternalId, (issuer, subject))
    return None if found is None else found.username


def row_of(found: ExternalId) -> dict[str, Any]:
    """As it is listed."""
    names = ("issuer", "subject", "username", "created_at")
    return {name: getattr(found, name) for name in names}


def _record(session: orm.Session, caller: Caller, action: str, found: ExternalId) -> None:
    detail = {"issuer": found.issuer, "subject": found.subject}
    audit.record(session, caller, action, f"account {found.username}", detail)
