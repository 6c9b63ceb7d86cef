"""Slow pages, however many somebody asks for, do not stop those of others."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import StreamingResponse

from datamgr import changes
from datamgr.api import auth, turns
from datamgr.api.app import create_app
from datamgr.api.auth import Access
from datamgr.api.deps import ReadSession
from datamgr.api.visitor import Visitor
from datamgr.config import Settings
from datamgr.db import Database
from tests import served
from tests.integration.pages.conftest import ADA, STAFF, TOKEN

CALLERS = {str(caller.uid): caller for caller in (ADA, STAFF)}
ASKED = 50  # more than there are threads and connections


def identify(request: Request) -> Visitor:
    """Whom the header names, looked up in the database as a session is."""
    caller = CALLERS[request.headers["x-uid"]]
    database: Database = request.app.state.database
    with database.transaction(read_only=True) as session:
        return Visitor(caller, caller.uid, "form", changes.version(session))


class Slow:
    """A page that is made until it is let go, with a connection of its own."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def page(self, session: ReadSession) -> str:
        session.execute(sa.text("SELECT 1"))
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.begun.release()
        self.go.wait()
        with self._lock:
            self.running -= 1
        return "made"


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.go.set()


def test_slow_pages_of_one_do_not_stop_those_of_others(
    settings: Settings,
    database: Database,
    scanned: Path,
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """50 slow requests of staff: 3 run; ada's page is made, and again found, meanwhile."""
    monkeypatch.setattr(auth, "identify", identify)
    app = create_app(settings, database, Access(TOKEN))
    app.get("/slow")(slow.page)
    with (
        served.serving(app) as address,
        httpx.Client(base_url=address, limits=httpx.Limits(max_connections=None)) as client,
        ThreadPoolExecutor(ASKED) as asking,
    ):

        def get(page: str, uid: int) -> int:
            return client.get(page, headers={"x-uid": str(uid)}, timeout=60).status_code

        try:
            answers = [asking.submit(get, "/slow", STAFF.uid) for _ in range(ASKED)]
            for _ in range(turns.PAGES_OF_ONE):
                slow.begun.acquire()
            assert [get(page, ADA.uid) for page in ("/", "/usage", "/", "/usage")] == [200] * 4
        finally:
            slow.go.set()
        assert {answer.result() for answer in answers} == {200}
    assert slow.most == turns.PAGES_OF_ONE
    assert app.state.turns.accounts == 0


def test_pages_that_are_followed_hold_no_turn(
    settings: Settings, database: Database, scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tabs of one account than it has turns, each with a stream that does not end."""
    monkeypatch.setattr(auth, "identify", identify)
    app = create_app(settings, database, Access(TOKEN))

    async def ticks() -> AsyncIterator[str]:
        while not app.state.stopping.is_set():
            yield "tick"
            await asyncio.sleep(0.05)

    @app.get("/followed")
    async def followed() -> StreamingResponse:
        return StreamingResponse(ticks())

    headers = {"x-uid": str(ADA.uid)}
    with (
        served.serving(app) as address,
        httpx.Client(base_url=address, headers=headers) as client,
        ExitStack() as tabs,
    ):
        for _ in range(turns.PAGES_OF_ONE + 2):
            tab = tabs.enter_context(client.stream("GET", "/followed", timeout=60))
            assert next(tab.iter_raw()) == b"tick"
        assert client.get("/usage", timeout=60).status_code == 200
        app.state.stopping.set()
