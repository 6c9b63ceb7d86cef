"""Pages that were made already and would be made the same again: what is on them did not change.

A page is remembered for one session of one visitor, under everything that decides what is on it:
who asks, with their groups and role of this moment; the version of projects, members and scans,
which with the former decides what they may see; the address; and, beside it, the words that tell
how long ago a scan was. All of that is looked up for each request.
See docs/decisions/0037-remembered-pages.md.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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

# When the scans were that answer.
STARTED = sa.text("SELECT started_at FROM scan WHERE state = 'published' ORDER BY id")


@dataclass(frozen=True)
class Answer:
    """A page, with the times of the scans that were published then and what it says of them."""

    page: bytes
    started: tuple[datetime, ...]
    said: list[str]


def recall(request: Request) -> Response | None:
    """The answer by a page that is remembered, if it would be made the same now.

    For a visitor whose session was looked up together with the version of what pages show.
    """
    known = visitor.of(request)
    if known is None or known.version is None:
        return None
    key = _key(request, known.caller, known.version)
    memory: Memory[Answer] = request.app.state.memory
    found = memory.find(key)
    if found is None or found.said != _say(found.started):
        return None
    return _unchanged(request, key, found.said) or _answer(key, found)


class Remembered:
    """Answers a request that `recall` could not, and remembers the page."""

    def __init__(self, request: Request, session: orm.Session, caller: Caller) -> None:
        self._request = request
        self._session = session
        self._caller = caller

    def page(self, make: Callable[[], HTMLResponse]) -> Response:
        """The page, made now; 304 for a browser that has it already.

        A page that sets its `Cache-Control` itself is not remembered.
        """
        key = _key(self._request, self._caller, changes.version(self._session))
        started = tuple(self._session.scalars(STARTED))
        said = _say(started)
        unchanged = _unchanged(self._request, key, said)
        if unchanged is not None:
            return unchanged
        made = make()
        if "cache-control" in made.headers:
            return made
        answer = Answer(bytes(made.body), started, said)
        memory: Memory[Answer] = self._request.app.state.memory
        memory.keep(key, answer, len(answer.page))
        return _answer(key, answer)


def _key(request: Request, caller: Caller, version: str) -> bytes:
    """A hash of everything that decides what is on the page but `Answer.said`."""
    known = visitor.of(request)
    decides = (
        request.app.state.fingerprint,
        (caller.username, caller.uid, sorted(caller.gids), str(caller.role)),
        None if known is None else (known.session_id, known.form_token),
        version,
        (request.url.path, request.url.query),
        # What no row tells: forecasts count from now, numbers of accounts have names, and
        # histories are thinned.
        db.utc_now().astimezone(UTC).strftime("%Y-%m-%dT%H"),
    )
    return _hash(repr(decides))


def _say(started: Sequence[datetime]) -> list[str]:
    return [rendering.ago(of_scan) for of_scan in started]


def _unchanged(request: Request, key: bytes, said: list[str]) -> Response | None:
    """The answer to a browser that has this page."""
    headers = _headers(key, said)
    if headers["ETag"] not in request.headers.get("if-none-match", ""):
        return None
    return Response(status_code=304, headers=headers)


def _answer(key: bytes, found: Answer) -> HTMLResponse:
    return HTMLResponse(found.page, headers=_headers(key, found.said))


def _headers(key: bytes, said: list[str]) -> dict[str, str]:
    """Browsers keep the page, and ask each time whether it still is the page."""
    tag = _hash(repr((key, said))).hex()
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


async def _remembered(request: Request, session: ReadSession, caller: Account) -> Remembered:
    return Remembered(request, session, caller)


Kept = Annotated[Remembered, Depends(_remembered, scope="function")]
