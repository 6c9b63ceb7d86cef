"""How a task goes on, as server-sent events: the part of its page that changes, when it does."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from fastapi import Request
from fastapi.sse import ServerSentEvent
from sqlalchemy import orm
from starlette.concurrency import run_in_threadpool

from datamgr.api import auth, visitor
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ForbiddenError, NotFoundError, UnavailableError
from datamgr.identity import Caller

LOOK_S = 1.0
BESIDE_S = 4.0
RETRY_MS = 2000

ValuesOf = Callable[[Settings, orm.Session, Caller, int], dict[str, Any]]


@dataclass
class Watched:
    """A task as one page follows it.

    `template` is the part that changes; `values_of` says what it shows to somebody, `ended` among
    it, or raises ForbiddenError or NotFoundError.
    """

    request: Request
    task_id: int
    template: str
    values_of: ValuesOf
    ended: bool = False
    _version: str = ""
    _looked_at: float = 0.0
    _text: str = ""

    def look(self) -> str | None:
        """The live part, if it is another than before.

        Raises:
            ForbiddenError: the session has ended meanwhile, or the right to see the task.
        """
        settings: Settings = self.request.app.state.settings
        database: Database = self.request.app.state.database
        # Of most looks nothing comes, so they ask whether the row is another. What is beside it
        # (the queue before it, the worker, the session of who looks) may wait.
        with database.transaction(read_only=True) as session:
            version = str(session.scalar(sa.text(_VERSION), {"id": self.task_id}))
        now = time.monotonic()
        if version == self._version and now - self._looked_at < BESIDE_S:
            return None
        # Anew, with the groups of this moment; before the next transaction, for who holds one
        # connection and waits for another keeps everybody waiting.
        visiting = auth.identify(self.request)
        if visiting is None:
            raise ForbiddenError("log in first")
        with database.transaction(read_only=True) as session:
            values = self.values_of(settings, session, visiting.caller, self.task_id)
        self._version, self._looked_at = version, now
        self.ended = values["ended"]
        text = bytes(visitor.page(self.request, self.template, values).body).decode()
        if text == self._text:
            return None
        self._text = text
        return text


async def follow(watched: Watched) -> AsyncIterator[ServerSentEvent]:
    """The live part as it is now, then each time that it is another; `end` after the last one.

    A browser that lost the connection asks again and gets the present state first, so nothing
    depends on what was missed. `gone`: who asks may not any more, or the task is not there.
    """
    while not watched.request.app.state.stopping.is_set():
        try:
            text = await run_in_threadpool(watched.look)
        except (ForbiddenError, NotFoundError):
            yield ServerSentEvent(event="gone", data="")
            return
        except (
            UnavailableError,
            sa.exc.TimeoutError,
        ):  # the database comes back, or the browser asks again
            text = None
        if text is not None:
            yield ServerSentEvent(event="state", data=text, retry=RETRY_MS)
        if watched.ended:
            yield ServerSentEvent(event="end", data="")
            return
        await asyncio.sleep(LOOK_S)


# Source: PostgreSQL, "System Columns": the transaction that wrote the row as it is.
_VERSION = "SELECT xmin::text FROM task WHERE id = :id"
