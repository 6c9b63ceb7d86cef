"""Remembered pages: never another one than would be made now for who asks."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from dashboard import choices, home
from datamgr import catalog, changes
from datamgr.api import auth
from datamgr.api.app import create_app
from datamgr.api.auth import Access
from datamgr.api.visitor import Visitor
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.config_web import WebSettings
from datamgr.db import Database
from datamgr.identity import Caller
from tests import served
from tests.integration.pages.conftest import ADA, MIB, STAFF, STRANGER, TOKEN, write
from tests.people import person

PI = person("60002", 60_002)
PROXY = person("60003", 60_003)
# In the same group as ada, which is another account.
BOB = person("bob", 60_004, *ADA.gids)
EVERYBODY = (ADA, BOB, PI, PROXY, STAFF, STRANGER)


class Site:
    """One server that everybody asks, each as whom a test names."""

    def __init__(self, client: httpx.Client, callers: list[Caller]) -> None:
        self._client = client
        self._callers = callers

    def get(self, caller: Caller, page: str, **headers: str) -> httpx.Response:
        self._callers[:] = [caller]
        return self._client.get(page, headers=headers)


def identify(request: Request) -> Visitor:
    """Whom the test names, with the session of a browser."""
    caller: Caller = request.app.state.callers[0]
    database: Database = request.app.state.database
    with database.transaction(read_only=True) as session:
        return Visitor(caller, caller.uid, "form", changes.version(session))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "identify", identify)


def site(settings: Settings, database: Database) -> Iterator[Site]:
    app = create_app(settings, database, Access(TOKEN))
    app.state.callers = []
    with served.serving(app) as address, httpx.Client(base_url=address) as client:
        yield Site(client, app.state.callers)


@pytest.fixture
def remembering(sessions: None, settings: Settings, database: Database) -> Iterator[Site]:
    yield from site(settings, database)


@pytest.fixture
def forgetful(sessions: None, settings: Settings, database: Database) -> Iterator[Site]:
    """Makes each page anew."""
    nothing = WebSettings(remembered_mib=0)
    yield from site(settings.model_copy(update={"web": nothing}), database)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one for each home page that is made."""
    count: list[str] = []
    real = home._home

    def counting(*args: Any) -> Any:
        count.append("/")
        return real(*args)

    monkeypatch.setattr(home, "_home", counting)
    return count


def change(database: Database, **changes: Any) -> None:
    with database.transaction() as session:
        catalog.set_project(session, STAFF, "cosmo", ProjectChange(**changes))


def test_everybody_gets_what_would_be_made_for_them(
    remembering: Site, forgetful: Site, database: Database, scanned: Path
) -> None:
    """Whoever asked before: each page is asked by all, in two orders, and then once more."""
    change(database, pis=["60002"], proxies=["60003"])
    at = choices.encode_path(os.fsencode(scanned / "cosmo/runs"))
    pages = ("/", "/usage", "/usage?project=cosmo", "/usage?project=lux", f"/browse?at={at}")
    expected = {
        (caller, page): forgetful.get(caller, page)
        for caller, page in itertools.product(EVERYBODY, pages)
    }
    statuses = {key: answer.status_code for key, answer in expected.items()}
    assert statuses[ADA, pages[-1]] == 200
    assert statuses[STRANGER, pages[-1]] == statuses[PROXY, pages[3]] == 404
    asked = [*itertools.product(EVERYBODY, pages), *itertools.product(EVERYBODY[::-1], pages)]
    for caller, page in asked + asked[:3]:
        answer = remembering.get(caller, page)
        wanted = expected[caller, page]
        assert (answer.status_code, answer.text) == (wanted.status_code, wanted.text)


def test_a_page_is_made_once_while_nothing_changes(
    remembering: Site, scanned: Path, made: list[str]
) -> None:
    first, second = (remembering.get(ADA, "/") for _ in range(2))
    assert first.text == second.text
    assert len(made) == 1
    remembering.get(BOB, "/")
    assert len(made) == 2


def test_a_browser_that_has_the_page_is_told_so_and_nobody_else(
    remembering: Site, scanned: Path
) -> None:
    first = remembering.get(ADA, "/")
    tag = first.headers["etag"]
    again = remembering.get(ADA, "/", **{"If-None-Match": f"W/{tag}"})
    assert (again.status_code, again.content) == (304, b"")
    assert remembering.get(BOB, "/", **{"If-None-Match": tag}).status_code == 200
    assert remembering.get(ADA, "/usage", **{"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    "happens",
    [
        lambda database, rescan: change(database, quota_bytes=7 << 40),
        lambda database, rescan: change(database, pis=["60002"]),
        lambda database, rescan: rescan(),
    ],
    ids=["quota", "member", "publication"],
)
def test_what_changes_is_seen_at_once(
    happens: Callable[..., Any],
    remembering: Site,
    forgetful: Site,
    database: Database,
    rescan: Callable[[], int],
    scanned: Path,
) -> None:
    before = {caller: remembering.get(caller, "/").text for caller in (ADA, PI, STAFF)}
    write(os.fsencode(scanned / "cosmo/new"), 5 * MIB)
    happens(database, rescan)
    after = {caller: remembering.get(caller, "/").text for caller in (ADA, PI, STAFF)}
    assert after != before
    assert after == {caller: forgetful.get(caller, "/").text for caller in (ADA, PI, STAFF)}


def test_a_removed_project_is_gone_at_once(
    remembering: Site, database: Database, scanned: Path
) -> None:
    assert "cosmo" in remembering.get(ADA, "/").text
    with database.transaction() as session:
        catalog.remove_project(session, STAFF, "cosmo")
    assert "cosmo" not in remembering.get(ADA, "/").text


def test_who_left_the_group_sees_nothing_of_it(remembering: Site, scanned: Path) -> None:
    """Groups are asked of the name service for each request."""
    assert "cosmo" in remembering.get(ADA, "/").text
    assert "cosmo" not in remembering.get(person("ada", ADA.uid), "/").text


def test_states_of_tiering_are_not_remembered(
    sessions: None, settings: Settings, database: Database, scanned: Path
) -> None:
    tier = TierSettings(root=scanned / "cosmo", archive=Path("/archive"))
    address = f"/browse?at={choices.encode_path(os.fsencode(scanned / 'cosmo/runs'))}"
    for managed, caching in (({"cfs": tier}, "no-store"), ({}, "private, no-cache")):
        for here in site(settings.model_copy(update={"tier": managed}), database):
            answer = here.get(ADA, address)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, caching)
            assert ("etag" in answer.headers) == (not managed)
