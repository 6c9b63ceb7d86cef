"""Pages that were made already and would be made the same again: what is on them did not change.

A page is remembered for one session of one visitor, under everything that decides what is on it:
who asks, with their groups and role of this moment; which projects they may see; the version of
projects, members and scans; the address; and the words that tell how long ago a scan was. All of
that is looked up for each request, in the transaction that the page is made in.
See docs/decisions/0037-remembered-pages.md.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import rendering
from datamgr import changes, db
from datamgr.api import visitor
from datamgr.api.deps import Account, ReadSession
from datamgr.api.memory import Memory
from datamgr.identity import Caller
from scanners.routes import Visible
from scanners.visibility import Visibility

# When the scans were that answer.
STARTED = sa.text("SELECT started_at FROM scan WHERE state = 'published' ORDER BY id")


class Remembered:
    """Answers a request by the page that is remembered, if there is one."""

    def __init__(
        self, request: Request, session: orm.Session, caller: Caller, visible: Visibility
    ) -> None:
        self._request = request
        self._session = session
        self._caller = caller
        self._visible = visible

    def page(self, make: Callable[[], HTMLResponse]) -> Response:
        """The page, made now unless it is remembered; 304 for a browser that has it already.

        A page that sets its `Cache-Control` itself is not remembered.
        """
        key = self._key()
        tag = f'"{key.hex()}"'
        # Browsers keep it, and ask each time whether it still is the page.
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in self._request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        memory: Memory = self._request.app.state.memory
        known = memory.find(key)
        if known is None:
            made = make()
            if "cache-control" in made.headers:
                return made
            known = bytes(made.body)
            memory.keep(key, known)
        return HTMLResponse(known, headers=headers)

    def _key(self) -> bytes:
        """A hash of everything that decides what is on the page."""
        caller, visible, known = self._caller, self._visible, visitor.of(self._request)
        started = self._session.scalars(STARTED)
        decides = (
            self._request.app.state.fingerprint,
            (caller.username, caller.uid, sorted(caller.gids), str(caller.role)),
            None if known is None else (known.session_id, known.form_token),
            (visible.everything, sorted(visible.projects), sorted(visible.names)),
            changes.version(self._session),
            (self._request.url.path, self._request.url.query),
            [rendering.ago(of_scan) for of_scan in started],
            # What no row tells: forecasts count from now, numbers of accounts have names, and
            # histories are thinned.
            db.utc_now().astimezone(UTC).strftime("%Y-%m-%dT%H"),
        )
        return hashlib.sha256(repr(decides).encode("utf-8", "surrogateescape")).digest()


async def _remembered(
    request: Request, session: ReadSession, caller: Account, visible: Visible
) -> Remembered:
    return Remembered(request, session, caller, visible)


Kept = Annotated[Remembered, Depends(_remembered, scope="function")]
