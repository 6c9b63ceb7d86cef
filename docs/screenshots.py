"""Write docs/images/*.png: the web pages over a real scan of /usr, in Debian's Chromium.

The quotas and the weeks before the scan are made up, for a scan just made has no past.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import orm

from datamgr import catalog, config, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import open_database
from scanners import scan

ROOT = b"/usr"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
WEEKS = 12
GIB = 1 << 30
# Name of the project: its quota of space in GiB, of inodes, and what part of it a week adds.
PROJECTS = {
    "lib": (4, 300_000, 0.03),
    "share": (1, 100_000, 0.012),
    "bin": (0.5, 5_000, 0.0),
    "include": (None, None, 0.0),
    "local": (2, 50_000, 0.05),
}
SIZES = {"": {"width": 1280, "height": 900}, "-phone": {"width": 390, "height": 844}}
HISTORY = """
INSERT INTO project_history
SELECT -:week * 100 - s.number, f.name, s.name, c.started_at - :age, sum(u.files * :part)::bigint,
    sum(u.directories), sum(u.size_bytes * :part)::bigint, sum(u.alloc_bytes * :part)::bigint,
    0, 0, 0, p.quota_bytes, p.quota_inodes
FROM scan_project s
JOIN scan c ON c.id = s.scan_id
JOIN filesystem f ON f.id = c.filesystem_id
JOIN project p ON p.id = s.project_id
JOIN usage u ON u.scan_id = s.scan_id AND u.project_number = s.number
WHERE s.name = :name
GROUP BY s.number, f.name, s.name, c.started_at, p.quota_bytes, p.quota_inodes
"""


def main(images: Path, pages: dict[str, str]) -> None:
    """Write every page into `images`: on a desktop in light, on a phone in dark."""
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="datamgr-screenshots-") as folder:
        os.environ["DATAMGR_STATE_DIR"] = folder
        prepare(config.load())
        with served() as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for name, page in pages.items():
                shoot(browser, address, page, images / name)
            browser.close()
        subprocess.run([sys.executable, "-m", "datamgr.cli.main", "db", "stop"], check=True)


def prepare(settings: Settings) -> None:
    """Register the projects, scan, and make up the weeks before."""
    staff = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
    with open_database(settings) as database:
        with database.transaction() as session:
            for name, (space, inodes, _) in PROJECTS.items():
                path = ROOT + b"/" + name.encode()
                quota = None if space is None else int(space * GIB)
                change = ProjectChange(path=path, quota_bytes=quota, quota_inodes=inodes)
                catalog.add_project(session, staff, name, change)
        scan.run(settings, database, scan.ScanRequest("usr", [ROOT]))
        with database.transaction() as session:
            make_history(session)


def make_history(session: orm.Session) -> None:
    """A history of WEEKS for each project, up to what the scan found."""
    for number, (name, (_, _, growth)) in enumerate(PROJECTS.items(), 1):
        for week in range(1, WEEKS + 1):
            noise = ((week * 37 + number * 11) % 7 - 3) / 500
            part = 1 - growth * week + noise
            asked = {"name": name, "week": week, "age": timedelta(weeks=week), "part": part}
            session.execute(sa.text(HISTORY), asked)


@contextmanager
def served() -> Iterator[str]:
    """The address of a `datamgr web`, with its token."""
    argv = [sys.executable, "-m", "datamgr.cli.main", "web", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield next(iter(process.stdout or ())).strip()
        finally:
            process.send_signal(signal.SIGTERM)


def shoot(browser: Browser, address: str, page: str, image: Path) -> None:
    """Write `<image>[-phone].png` of one page; with `--all` each in light and dark, as a whole."""
    root, token = address.split("/?")
    separator = "&" if "?" in page else "?"
    every = "--all" in sys.argv
    for size, viewport in SIZES.items():
        for scheme in ("light", "dark") if every else ("dark" if size else "light",):
            context = browser.new_context(viewport=viewport, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(f"{root}{page}{separator}{token}")
            suffix = f"-{scheme}" if every else ""
            tab.screenshot(path=f"{image}{size}{suffix}.png", full_page=every)
            context.close()


PAGES = {
    "home": "/?details=usr%2Flib",
    "browse": "/browse?at=L3Vzci9saWI",
    "project": "/usage?filesystem=usr&project=lib",
}

if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"), PAGES)
