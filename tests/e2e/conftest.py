"""Fixtures of the tests that use datamgr as people do: its processes, a real browser."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, expect, sync_playwright

from datamgr.cli import web
from datamgr.config import Settings
from datamgr.db import Database, make_engine
from tests import databases
from tests.commands import DATAMGR

# The Debian package; where it is missing these tests fail, because nothing else tests the pages.
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",  # root may not use it, and the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = b"<script>document.title='owned'<script>\n\xff\xe2\x80\xaefdp.exe" + b"long" * 40
PATIENCE_MS = 60_000  # a machine that is busy with something else is no defect of a page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Site:
    """A `datamgr web` for many tests, with a database and a state of its own."""

    settings: Settings
    database: Database
    base: str

    def link(self) -> str:
        """Logs one browser in."""
        return web.new_link(self.settings, self.database, self.base)


@contextmanager
def site(settings: Settings, database: Database, **environment: str) -> Iterator[Site]:
    place = {
        "DATAMGR_DATABASE__URL": settings.database.url,
        "DATAMGR_STATE_DIR": str(settings.state_dir),
    }
    with serving(os.environ | place | environment) as address:
        yield Site(settings, database, address.split("/login", maxsplit=1)[0])


@contextmanager
def serving(environment: Mapping[str, str]) -> Iterator[str]:
    """The address that `datamgr web` prints; in the end it has to stop cleanly."""
    argv = [*DATAMGR, "web", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """Of a server of the test's own."""
    with serving(os.environ) as printed:
        yield printed


@pytest.fixture(scope="module")
def site_settings(
    server: sa.Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Of a site for all tests of a module."""
    with databases.fresh(server) as url:
        yield databases.settings(url, tmp_path_factory.mktemp("site") / "state")


@pytest.fixture(scope="module")
def site_database(site_settings: Settings) -> Iterator[Database]:
    engine = make_engine(sa.make_url(site_settings.database.url), 10)
    yield Database(engine)
    engine.dispose()
