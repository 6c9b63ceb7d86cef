"""What routes ask for: a session to read with, and query parameters that several share."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from datamgr.api import visitor
from datamgr.db import Database
from datamgr.errors import ForbiddenError
from datamgr.identity import Caller


def read_session(request: Request) -> Iterator[orm.Session]:
    """A read-only transaction for one request, which sees one state of the database throughout.

    Raises:
        UnavailableError: the database does not answer.
    """
    database: Database = request.app.state.database
    # A scan published between two queries of a page would show two truths on it.
    with database.snapshot() as session:
        yield session


# Ended before the answer is sent, so that a slow reader keeps no transaction open.
ReadSession = Annotated[orm.Session, Depends(read_session, scope="function")]


# What waits for nothing is async: it costs no way to another thread and back.
async def account(request: Request) -> Caller:
    """Who is asking, as the guard found out.

    Raises:
        ForbiddenError: nobody who is known.
    """
    known = visitor.of(request)
    if known is None:
        raise ForbiddenError("log in first")
    return known.caller


Account = Annotated[Caller, Depends(account)]


class Pages:
    """Makes the pages of one request."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __call__(self, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """The page, as who asks for it sees it."""
        return visitor.page(self._request, template, dict(values), status)


async def pages(request: Request) -> Pages:
    """For routes that show pages."""
    return Pages(request)


Page = Annotated[Pages, Depends(pages)]

# PostgreSQL's text cannot hold the character NUL. A name of 255 odd bytes is four times as long.
Name = Annotated[str | None, Query(max_length=1100, pattern=r"^[^\x00]*$")]
