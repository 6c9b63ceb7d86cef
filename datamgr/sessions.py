"""Sessions of the web pages and their tickets; of the secrets of both, hashes alone are kept."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr import audit, catalog, identity
from datamgr.config import Settings
from datamgr.db import Base
from datamgr.errors import ForbiddenError, NotFoundError
from datamgr.identity import Caller

TOKEN_BYTES = 32
# What tickets are for. That of the last is the session's own cookie.
LINK, ROUND_TRIP, AT_PROVIDER = "link", "oidc", "provider"
SEEN_S = 60  # how precisely it is known when a session was last used
AGENT_CHARACTERS = 200  # that are kept of what a browser calls itself


class WebSession(Base):
    """A login that has not ended; whoever has the token of `token_hash` is `username`."""

    __tablename__ = "web_session"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    token_hash: orm.Mapped[bytes] = orm.mapped_column(unique=True)
    username: orm.Mapped[str] = orm.mapped_column(index=True)
    uid: orm.Mapped[int]
    method: orm.Mapped[str]
    client: orm.Mapped[str]
    agent: orm.Mapped[str]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    seen_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    expires_at: orm.Mapped[datetime]


class WebTicket(Base):
    """Good once: a printed link, a way to a provider and back, an ID token to log out there."""

    __tablename__ = "web_ticket"

    token_hash: orm.Mapped[bytes] = orm.mapped_column(primary_key=True)
    purpose: orm.Mapped[str]
    detail: orm.Mapped[dict[str, Any]] = orm.mapped_column(postgresql.JSONB)
    expires_at: orm.Mapped[datetime]


@dataclass(frozen=True)
class Origin:
    """From where somebody logs in: how, from which address, with which browser."""

    method: str
    client: str
    agent: str


def issue_ticket(
    session: orm.Session,
    purpose: str,
    detail: Mapping[str, Any],
    lifetime_s: float,
    token: str | None = None,
) -> str:
    """A new ticket, of a secret of its own or of `token`, and the end of those that are over."""
    session.execute(sa.delete(WebTicket).where(WebTicket.expires_at <= sa.func.now()))
    token = token or secrets.token_urlsafe(TOKEN_BYTES)
    session.add(
        WebTicket(
            token_hash=_hash(token),
            purpose=purpose,
            detail=dict(detail),
            expires_at=sa.func.now() + timedelta(seconds=lifetime_s),
        )
    )
    return token


def take_ticket(session: orm.Session, purpose: str, token: str) -> dict[str, Any]:
    """What was written on a ticket, which is gone now, whoever else has it at this moment.

    Raises:
        ForbiddenError: there is none: it was used, its time is over, or it never was.
    """
    taken = session.scalar(
        sa.delete(WebTicket)
        .where(
            WebTicket.token_hash == _hash(token),
            WebTicket.purpose == purpose,
            WebTicket.expires_at > sa.func.now(),
        )
        .returning(WebTicket.detail)
    )
    if taken is None:
        raise ForbiddenError("this link was used already, or its time is over")
    return dict(taken)


def begin(
    session: orm.Session, settings: Settings, caller: Caller, origin: Origin
) -> tuple[str, int]:
    """Log somebody in; the token of the new session, and its number."""
    session.execute(sa.delete(WebSession).where(_is_over(settings)))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    begun = WebSession(
        token_hash=_hash(token),
        username=caller.username,
        uid=caller.uid,
        method=origin.method,
        client=origin.client,
        agent=origin.agent[:AGENT_CHARACTERS].replace("\0", ""),
        expires_at=sa.func.now() + timedelta(seconds=settings.web.session_s),
    )
    session.add(begun)
    session.flush()
    detail = {"method": origin.method, "client": origin.client}
    audit.record(session, caller, "web.login", f"session {begun.id}", detail)
    return token, begun.id


def find(session: orm.Session, settings: Settings, token: str) -> tuple[WebSession, bool] | None:
    """The session of a token, if it has not ended, and whether `touch` is due."""
    due = WebSession.seen_at < sa.func.now() - timedelta(seconds=SEEN_S)
    wanted = sa.select(WebSession, due).where(
        WebSession.token_hash == _hash(token), sa.not_(_is_over(settings))
    )
    found = session.execute(wanted).one_or_none()
    return None if found is None else (found[0], found[1])


def touch(session: orm.Session, session_id: int) -> None:
    """Note that a session is used."""
    wanted = sa.update(WebSession).where(WebSession.id == session_id)
    session.execute(wanted.values(seen_at=sa.func.now()))


def log_out(session: orm.Session, caller: Caller, session_id: int) -> None:
    """End the caller's session."""
    session.execute(sa.delete(WebSession).where(WebSession.id == session_id))
    audit.record(session, caller, "web.logout", f"session {session_id}")


def list_sessions(
    session: orm.Session, settings: Settings, caller: Caller, username: str | None = None
) -> list[dict[str, Any]]:
    """Sessions that have not ended, oldest first: the caller's own, all for who manages."""
    columns = [
        getattr(WebSession, name)
        for name in (
            "id", "username", "method", "client", "agent", "created_at", "seen_at", "expires_at",
        )
    ]  # fmt: skip
    wanted = sa.select(*columns).where(sa.not_(_is_over(settings))).order_by(WebSession.id)
    if not catalog.is_manager(session, caller):
        wanted = wanted.where(WebSession.username == caller.username)
    if username is not None:
        wanted = wanted.where(WebSession.username == username)
    return [dict(row) for row in session.execute(wanted).mappings()]


def revoke(
    session: orm.Session,
    caller: Caller,
    *,
    ids: tuple[int, ...] = (),
    username: str | None = None,
) -> list[dict[str, Any]]:
    """End sessions by number, or all of an account; what was ended, by number and account.

    Raises:
        NotFoundError: there is no session of such a number.
        ForbiddenError: one is not the caller's, who does not manage.
    """
    wanted = sa.or_(WebSession.id.in_(ids), WebSession.username == username)
    found = session.scalars(sa.select(WebSession).where(wanted).with_for_update()).all()
    missing = set(ids) - {one.id for one in found}
    if missing:
        raise NotFoundError(
            f"there is no session {min(missing)}; `datamgr identity sessions` names them"
        )
    manages = catalog.is_manager(session, caller)
    rows = []
    for one in sorted(found, key=lambda one: one.id):
        if one.username != caller.username and not manages:
            raise ForbiddenError(
                f"{caller.username} may not end session {one.id}: it is of {one.username}"
            )
        session.delete(one)
        # The ID token of its login, if there is one, is under the same secret.
        session.execute(sa.delete(WebTicket).where(WebTicket.token_hash == one.token_hash))
        detail = {"username": one.username}
        audit.record(session, caller, "web.revoke", f"session {one.id}", detail)
        rows.append({"id": one.id, "username": one.username})
    return rows


def caller_of(settings: Settings, found: WebSession) -> Caller | None:
    """Whose session it is, with the groups and the role of this moment; None for no account."""
    caller = identity.by_uid(settings, found.uid)
    return caller if caller.username == found.username else None


def form_token(token: str) -> str:
    """What forms of a session carry, which tells nothing of its token."""
    return hmac.new(token.encode(errors="replace"), b"form", hashlib.sha256).hexdigest()


def _is_over(settings: Settings) -> sa.ColumnElement[bool]:
    idle = WebSession.seen_at <= sa.func.now() - timedelta(seconds=settings.web.idle_s)
    return sa.or_(WebSession.expires_at <= sa.func.now(), idle)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
