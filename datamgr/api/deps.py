"""What routes ask for: a session to read with, and query parameters that several share."""

from collections.abc import Iterator
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Query, Request
from sqlalchemy import orm

from datamgr import identity
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller


def read_session(request: Request) -> Iterator[orm.Session]:
    """A read-only transaction for one request, which sees one state of the database throughout.

    Raises:
        UnavailableError: the database does not answer.
    """
    database: Database = request.app.state.database
    with database.transaction(read_only=True) as session:
        # A scan published between two queries of a page would show two truths on it.
        session.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        yield session


# Ended before the answer is sent, so that a slow reader keeps no transaction open.
ReadSession = Annotated[orm.Session, Depends(read_session, scope="function")]


def account(request: Request) -> Caller:
    """Who is asking: with the token of an installation, the account that runs the server."""
    settings: Settings = request.app.state.settings
    return identity.current(settings)


Account = Annotated[Caller, Depends(account)]

# PostgreSQL's text cannot hold the character NUL. A name of 255 odd bytes is four times as long.
Name = Annotated[str | None, Query(max_length=1100, pattern=r"^[^\x00]*$")]
