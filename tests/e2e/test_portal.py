"""Logging in, and a request for permissions from its preview to its undo, as people do it."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from datamgr import catalog, external_ids, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from tests import mounts, served
from tests.accounts import People
from tests.commands import DATAMGR
from tests.watched import (
    DESKTOP,
    PHONE,
    another_link,
    opened,
    require_accessible,
    require_usable,
)

pytestmark = [pytest.mark.browser, mounts.needs_root, pytest.mark.root]

ROOT = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
SUBJECT = "http://example.org/users/42"
HOSTILE = b"<img src=x onerror=alert(1)>\n\xff\xe2\x80\xaefdp.exe"


@contextmanager
def process(*arguments: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """A service that has said, on standard error, that it is ready."""
    argv = [*DATAMGR, *arguments]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            assert any(until in line for line in started.stderr)
            yield started
            started.send_signal(signal.SIGTERM)
            started.communicate(timeout=60)
        finally:
            started.kill()


@pytest.fixture
def project(
    settings: Settings, database: Database, people: People, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Project cosmo of the PI, with a few directories; worker and lister run."""
    with tempfile.TemporaryDirectory(prefix="datamgr-e2e-") as folder:
        Path(folder).chmod(0o711)
        root = Path(folder) / "cosmo"
        for name in ("runs/2026", "www", "analysis"):
            (root / name).mkdir(parents=True)
        for name in (b"runs/2026/out.h5", b"runs/2026/log.txt", b"www/index.html", HOSTILE):
            Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"x" * 3000)
        for path in (root, *root.rglob("*")):
            os.chown(path, people.uid(people.pi), people.second_gid, follow_symlinks=False)
            path.chmod(0o700 if path.is_dir() else 0o600)
        change = ProjectChange(os.fsencode(root), people.group, pis=[people.pi])
        with database.transaction() as session:
            catalog.add_project(session, ROOT, "cosmo", change)
        run = Path(folder) / "run"
        run.mkdir(mode=0o711)
        monkeypatch.setenv("DATAMGR_PITOOLBOX__ROOTS", f'["{folder}"]')
        monkeypatch.setenv("DATAMGR_PITOOLBOX__LISTER_SOCKET", str(run / "socket"))
        with process("perms", "lister", until="lists directories"):
            yield root


@pytest.fixture
def worker(project: Path) -> Iterator[None]:
    with process("perms", "worker", until="waits for tasks"):
        yield


def tick(page: Page, name: str) -> None:
    page.get_by_role("checkbox", name=f"Select {name}", exact=True).check()


def state(page: Page) -> str:
    return page.get_by_role("heading", level=2).first.inner_text()


def group_of(path: Path) -> int:
    return path.lstat().st_gid


@pytest.mark.usefixtures("worker")
def test_a_change_is_previewed_made_and_undone(
    project: Path, browser: Browser, address: str, people: People
) -> None:
    """All of it without loading a page by hand: the pages of requests follow by themselves."""
    file = project / "runs/2026/out.h5"
    with opened(browser, address, viewport=DESKTOP) as page:
        page.get_by_role("link", name="Permissions").click()
        require_accessible(page)
        page.get_by_role("link", name="cosmo").click()
        require_accessible(page)
        expect(page.get_by_text("Nothing is selected.")).to_be_visible()
        tick(page, "runs")
        expect(page.get_by_text("1 selected")).to_be_visible()
        page.get_by_role("combobox", name="Group", exact=True).select_option(people.group)
        page.get_by_role("radio", name="Give to the group").check()
        page.get_by_role("button", name="Preview").click()
        page.wait_for_url("**/perms/requests/*")
        expect(page.get_by_text("This would change 4 entries.")).to_be_visible()
        expect(page.get_by_role("table", name="Numbers")).to_contain_text("2 directories, 2 files")
        require_accessible(page)
        assert group_of(file) == people.second_gid
        page.get_by_role("button", name="Carry it out").click()
        expect(page.get_by_text("All of it is done.")).to_be_visible()
        assert state(page) == "succeeded"
        assert group_of(file) == people.gid
        require_accessible(page)
        page.get_by_role("button", name="Undo…").click()
        expect(page.get_by_text("This would change 4 entries.")).to_be_visible()
        assert group_of(file) == people.gid
        page.get_by_role("button", name="Carry it out").click()
        expect(page.get_by_text("All of it is done.")).to_be_visible()
        assert group_of(file) == people.second_gid
        page.get_by_role("link", name="Requests").click()
        require_accessible(page)
        expect(page.get_by_role("row")).to_have_count(1 + 4)


def test_a_request_that_waits_is_cancelled_in_two_tabs(
    project: Path, browser: Browser, address: str, people: People
) -> None:
    with opened(browser, address) as page:
        page.goto(address.split("/login", maxsplit=1)[0] + "/perms/browse?project=cosmo")
        tick(page, "www")
        page.get_by_role("radio", name="Let the group").check()
        page.get_by_label("Rights of the group").fill("g+rX")
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_text("Nothing carries requests out")).to_be_visible()
        page.get_by_role("button", name="without waiting").click()
        page.wait_for_url("**/perms/requests/2")
        other = page.context.new_page()
        other.goto(page.url)
        expect(other.get_by_role("button", name="Cancel")).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        for tab in (page, other):
            expect(tab.get_by_text("Nothing was changed.")).to_be_visible()
            expect(tab.get_by_role("button", name="Cancel")).to_have_count(0)
    assert (project / "www").stat().st_mode & 0o777 == 0o700


def test_a_selection_is_all_or_nothing_and_dropped_on_the_way(
    project: Path, browser: Browser, address: str
) -> None:
    with opened(browser, address) as page:
        page.goto(address.split("/login", maxsplit=1)[0] + "/perms/browse?project=cosmo")
        page.get_by_role("checkbox", name="Select all 4 shown").check()
        expect(page.get_by_text("4 selected")).to_be_visible()
        page.get_by_role("checkbox", name="Select www").uncheck()
        expect(page.get_by_text("3 selected")).to_be_visible()
        assert page.get_by_role("checkbox", name="Select all").evaluate("box => box.indeterminate")
        page.get_by_role("link", name="runs/").click()
        expect(page.get_by_text("Nothing is selected.")).to_be_visible()
        page.go_back()
        expect(page.get_by_text("Nothing is selected.")).to_be_visible()
        page.get_by_role("textbox", name="Path").fill(f"{project}/runs/2026")
        page.get_by_role("button", name="Go").click()
        expect(page.get_by_role("rowheader", name="out.h5")).to_be_visible()


@pytest.mark.usefixtures("worker")
def test_it_works_without_scripts(
    project: Path, browser: Browser, address: str, people: People
) -> None:
    with opened(browser, address, java_script_enabled=False) as page:
        page.goto(address.split("/login", maxsplit=1)[0] + "/perms/browse?project=cosmo")
        page.get_by_role("link", name="Select all shown").click()
        page.get_by_role("checkbox", name="This directory itself").check()
        page.get_by_role("radio", name="Share all of it").check()
        page.get_by_role("button", name="Preview").click()
        # A page that is not at its end loads itself again.
        expect(page.get_by_role("button", name="Carry it out", exact=True)).to_be_visible()
        page.get_by_role("button", name="Carry it out").click()
        expect(page.get_by_text("All of it is done.")).to_be_visible()
    assert oct((project / "runs").stat().st_mode & 0o7777) == "0o2750"


def test_a_page_follows_again_after_the_server_was_killed(
    project: Path, browser: Browser, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the browser reports of the connection that broke is no error of the page."""
    port = served.free_port()
    base = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        first = stack.enter_context(process("web", "--port", str(port), until="serving on"))
        context = stack.enter_context(browser.new_context())
        page = context.new_page()
        page.goto(another_link())
        page.goto(f"{base}/perms/browse?project=cosmo")
        tick(page, "www")
        page.get_by_role("radio", name="Share all of it").check()
        # A server that dies before it gave the script away has nobody to tell of the connection.
        with page.expect_response(re.compile(r"/events$")):
            page.get_by_role("button", name="Preview").click()
        expect(page.get_by_role("heading", name="queued")).to_be_visible()
        first.kill()
        first.wait(timeout=120)
        expect(page.get_by_text("The connection is lost")).to_be_visible()
        page.evaluate("window.mark = 'same page'")
        stack.enter_context(process("web", "--port", str(port), until="serving on"))
        stack.enter_context(process("perms", "worker", until="waits for tasks"))
        expect(page.get_by_text("This would change 2 entries.")).to_be_visible()
        expect(page.get_by_text("The connection is lost")).to_be_hidden()
        assert page.evaluate("window.mark") == "same page"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with served.provider() as address:
        yield address


@pytest.mark.usefixtures("worker")
def test_a_pi_logs_in_at_a_provider_and_shares_the_project(
    project: Path,
    browser: Browser,
    database: Database,
    issuer: str,
    people: People,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = served.free_port()
    base = f"http://127.0.0.1:{port}"
    for name, value in {
        "WEB__LOGIN": "oidc",
        "WEB__PUBLIC_URL": base,
        "OIDC__ISSUER": issuer,
        "OIDC__CLIENT_ID": "datamgr",
        "OIDC__CLIENT_SECRET": "secret",
    }.items():
        monkeypatch.setenv(f"DATAMGR_{name}", value)
    with database.transaction() as session:
        external_ids.map_to(session, ROOT, issuer, SUBJECT, people.pi)
    with (
        process("web", "--port", str(port), until="serving on"),
        browser.new_context(viewport=PHONE) as context,
    ):
        page = context.new_page()
        asked: list[str] = []
        complaints: list[str] = []
        # The provider's own pages want a style sheet from another host, which they do not get.
        context.route(re.compile(r"^https://"), lambda route: route.abort())
        page.on("request", lambda request: page.url.startswith(base) and asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{base}/perms")
        require_accessible(page)
        page.get_by_role("link", name="Log in at the identity provider").click()
        page.wait_for_url(f"{issuer}/**")
        page.locator("input[name=sub]").first.fill(SUBJECT)
        page.locator("input[name=sub]").first.press("Enter")
        page.wait_for_url(f"{base}/perms")
        expect(page.get_by_text(people.pi)).to_be_visible()
        page.get_by_role("link", name="cosmo").click()
        page.get_by_role("checkbox", name="This directory itself").check()
        page.get_by_role("radio", name="Share all of it").check()
        page.get_by_role("button", name="Preview").click()
        page.get_by_role("button", name="Carry it out", exact=True).click()
        expect(page.get_by_text("All of it is done.")).to_be_visible()
        assert group_of(project / "www/index.html") == people.gid
        page.get_by_role("button", name="Log out").click()
        # By a page of ours that goes on by itself; the provider asks once more.
        page.wait_for_url(f"{issuer}/**")
        page.get_by_role("button").first.click()
        page.wait_for_url(f"{base}/login")
        page.goto(f"{base}/perms")
        expect(page.get_by_role("link", name="Log in at the identity provider")).to_be_visible()
        assert [url for url in asked if not url.startswith((f"{base}/", f"{issuer}/"))] == []
        assert complaints == []


@pytest.mark.usefixtures("worker")
def test_every_page_can_be_used_by_everybody(
    project: Path, browser: Browser, address: str, people: People
) -> None:
    """axe-core finds nothing serious, nothing scrolls sideways, names stay text."""
    with opened(browser, address) as page:
        base = address.split("/login", maxsplit=1)[0]
        (project / "analysis").chmod(0o700)
        os.chown(project / "analysis", people.uid(people.stranger), people.other_gid)
        page.goto(f"{base}/perms/browse?project=cosmo")
        page.get_by_role("checkbox", name="This directory itself").check()
        page.get_by_role("radio", name="Share all of it").check()
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_text("This would change")).to_be_visible()
        page.get_by_role("button", name="Carry it out").click()
        expect(page.get_by_text("It is done, but not for all")).to_be_visible()
        for path in (
            "/perms",
            "/perms/browse?project=cosmo",
            "/perms/requests/1",
            "/perms/requests/2",
            "/perms/requests/2/left-alone",
            "/perms/requests",
            "/login",
            "/",
            "/operations",
        ):
            page.goto(base + path)
            require_usable(page)
            assert re.search("owned|alert", page.title()) is None
