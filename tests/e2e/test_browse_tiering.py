"""Files put, punched and staged from the file browser, as it is then seen on disk."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from datamgr import catalog, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from scanners import scan
from tests import mounts
from tests.e2e.conftest import HOSTILE
from tests.tier_daemon import daemon
from tests.watched import DESKTOP, opened, require_accessible, require_usable

pytestmark = [pytest.mark.browser, mounts.needs_root, pytest.mark.root]

ROOT = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
CONTENT = b"content of a run" * 65_536  # 1 MiB


@pytest.fixture
def ground() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="datamgr-e2e-tier-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def data(
    ground: Path, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A managed root on a file system of its own, scanned."""
    with mounts.ext4(ground, 64 << 20) as disk:
        root = disk / "lab"
        (root / "runs").mkdir(parents=True)
        (ground / "archive").mkdir(mode=0o700)
        for name in ("run1.h5", "run2.h5", "notes.txt"):
            (root / "runs" / name).write_bytes(CONTENT)
        Path(os.fsdecode(os.fsencode(root) + b"/runs/" + HOSTILE)).write_bytes(b"x" * 5000)
        with database.transaction() as session:
            catalog.add_project(session, ROOT, "lab", ProjectChange(os.fsencode(root)))
        scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(disk)], workers=1))
        config = ground / "datamgr.toml"
        config.write_text(
            f"[tiering]\nsocket = '{ground}/run/tier.sock'\n[tier.lab]\nroot = '{root}'\n"
            f"archive = '{ground}/archive'\n[tier.lab.policy.everything]\naction = 'put'\n"
            "older_than_s = 0\n"
        )
        monkeypatch.setenv("DATAMGR_CONFIG", str(config))
        yield root


@pytest.fixture
def worked(ground: Path, data: Path) -> Iterator[Path]:
    """The root, with a daemon at work on it."""
    with daemon(ground):
        yield data


def browse(page: Page) -> None:
    page.goto("/".join(page.url.split("/")[:3]) + "/usage?filesystem=cfs&project=lab")
    page.get_by_role("link", name="Browse the files").click()
    page.get_by_role("link", name="runs/").click()
    expect(page.get_by_role("heading", name="In this directory")).to_be_visible()


def row(page: Page, name: str) -> str:
    return page.get_by_role("row").filter(has_text=name).inner_text()


def ask(page: Page, do: str, *names: str) -> None:
    for name in names:
        page.get_by_role("checkbox", name=f"Select {name}", exact=True).check()
    page.get_by_role("button", name=f"{do}…", exact=True).click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()


def test_a_file_is_put_punched_and_staged(worked: Path, browser: Browser, address: str) -> None:
    """No page is loaded by hand: those of requests follow by themselves."""
    run1, run2 = worked / "runs/run1.h5", worked / "runs/run2.h5"
    with opened(browser, address, viewport=DESKTOP) as page:
        browse(page)
        expect(page.get_by_text("Nothing is selected.")).to_be_visible()
        assert "on disk only" in row(page, "run1.h5")
        page.get_by_role("checkbox", name="Select run1.h5").check()
        expect(page.get_by_text("1 selected, 1.0\u00a0MiB")).to_be_visible()
        ask(page, "Put", "run2.h5")
        require_accessible(page)
        page.get_by_role("button", name="Put into the archive").click()
        page.wait_for_url("**/tiering/requests/*")
        expect(page.get_by_role("heading", name="succeeded")).to_be_visible()
        expect(page.get_by_text("2 files, 2.0\u00a0MiB")).to_be_visible()
        require_accessible(page)
        assert run1.stat().st_blocks > 0

        browse(page)
        assert "on disk and in the archive" in row(page, "run2.h5")
        ask(page, "Punch", "run1.h5", "notes.txt")
        expect(page.get_by_text("reads zeros")).to_be_visible()
        page.get_by_role("checkbox", name="Make stubs").check()
        page.get_by_role("button", name="Punch", exact=True).click()
        expect(page.get_by_role("heading", name="done in part")).to_be_visible()
        # What was never put stays, and is named.
        failed = page.get_by_role("table", name="Files and why")
        expect(failed).to_contain_text("notes.txt")
        expect(failed).to_contain_text("it is not in the archive; put it there first")
        # One block may be left, of the mark that makes it a stub.
        assert run1.stat().st_blocks <= 8
        assert run1.stat().st_size == len(CONTENT)
        assert (worked / "runs/notes.txt").read_bytes() == CONTENT

        browse(page)
        assert "in the archive, on disk a stub" in row(page, "run1.h5")
        ask(page, "Stage", "run1.h5")
        page.get_by_role("button", name="Stage", exact=True).click()
        expect(page.get_by_role("heading", name="succeeded")).to_be_visible()
        assert run1.read_bytes() == CONTENT

        browse(page)
        ask(page, "Pin", "run2.h5")
        page.get_by_label("Pin for").fill("90")
        page.get_by_role("button", name="Pin", exact=True).click()
        expect(page.get_by_role("heading", name="succeeded")).to_be_visible()
        browse(page)
        assert "pinned" in row(page, "run2.h5")
        ask(page, "Punch", "run2.h5")
        page.get_by_role("checkbox", name="Make stubs").check()
        page.get_by_role("button", name="Punch", exact=True).click()
        expect(page.get_by_text("it is pinned until")).to_be_visible()
        assert run2.read_bytes() == CONTENT


def test_it_works_without_scripts(worked: Path, browser: Browser, address: str) -> None:
    """All of a page, a directory with what is below it, put and freed by one request."""
    with opened(browser, address, java_script_enabled=False) as page:
        page.goto("/".join(page.url.split("/")[:3]) + "/usage?filesystem=cfs&project=lab")
        page.get_by_role("link", name="Browse the files").click()
        page.get_by_role("link", name="Select all shown").click()
        with page.expect_download() as got:
            page.get_by_role("button", name="List with NUL").click()
        assert Path(got.value.path()).read_bytes() == os.fsencode(worked / "runs") + b"\0"
        ask(page, "Put")
        expect(page.get_by_text("This is for everything below the directory")).to_be_visible()
        page.get_by_role("checkbox", name="Punch what was put").check()
        page.get_by_role("checkbox", name="Make stubs").check()
        page.get_by_role("button", name="Put into the archive").click()
        # A page that is not at its end loads itself again.
        expect(page.get_by_role("heading", name="succeeded")).to_be_visible()
        browse(page)
        page.get_by_role("list", name="Path").get_by_role("link", name="lab").click()
        assert re.search(r"H 3.0.MiB 4.files", row(page, "runs/"))
    found = [path for path in (worked / "runs").iterdir() if path.is_file()]
    assert len(found) == 4
    assert all(path.stat().st_blocks <= 8 for path in found)


def test_the_pages_can_be_used_by_everybody(data: Path, browser: Browser, address: str) -> None:
    """axe-core finds nothing serious, nothing scrolls sideways, names stay text, no daemon runs."""
    with opened(browser, address) as page:
        browse(page)
        page.get_by_role("checkbox", name="Select all 4 shown").check()
        expect(page.get_by_text(re.compile("4 selected, 3.0.MiB"))).to_be_visible()
        require_usable(page, "browse")
        # A list that was changed in place is counted again.
        page.get_by_role("link", name="name", exact=True).click()
        expect(page.get_by_text("Nothing is selected.")).to_be_visible()
        page.get_by_role("checkbox", name="Select all 4 shown").check()
        page.get_by_role("button", name="Punch…").click()
        require_usable(page, "confirm")
        expect(page.get_by_text("Nothing carries requests out")).to_be_visible()
        page.get_by_role("checkbox", name="Make stubs").check()
        page.get_by_role("button", name="Punch", exact=True).click()
        expect(page.get_by_role("heading", name="queued")).to_be_visible()
        require_usable(page, "request")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", name="cancelled")).to_be_visible()
        page.get_by_role("link", name="Tiering").first.click()
        page.get_by_role("link", name="all", exact=True).click()
        require_usable(page, "tiering")
        page.get_by_role("link", name="everything").click()
        expect(page.get_by_role("region", name="The oldest files")).to_contain_text("run1.h5")
        require_usable(page, "policy")
        page.goto("/".join(page.url.split("/")[:3]) + "/usage?filesystem=cfs&project=lab")
        page.get_by_role("link", name="Browse the files").click()
        assert re.search(r"G 3.0.MiB 4.files", row(page, "runs/"))
        require_usable(page, "directories")
        assert "owned" not in page.title()
