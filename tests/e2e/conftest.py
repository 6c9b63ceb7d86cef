"""Fixtures of the tests that use datamgr as people do: its processes, a real browser."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from datamgr import catalog, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from scanners import scan

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
MIB = 1 << 20


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def scanned(settings: Settings, database: Database, tmp_path: Path) -> Path:
    """Two projects, scanned twice: cosmo over its quota of 3 MiB, lux with a name to fear."""
    root = tmp_path / "cfs"
    files = {b"cosmo/runs/snap_001.hdf5": 3, b"cosmo/runs/snap_002.hdf5": 1, b"lux/" + HOSTILE: 1}
    for name, size_mib in files.items():
        _write(os.fsencode(root) + b"/" + name, size_mib * MIB)
    staff = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
    with database.transaction() as session:
        for name, quota_bytes in (("cosmo", 3 * MIB), ("lux", 10 * MIB)):
            change = ProjectChange(
                path=os.fsencode(root / name), quota_bytes=quota_bytes, quota_inodes=100
            )
            catalog.add_project(session, staff, name, change)
    request = scan.ScanRequest("cfs", [os.fsencode(root)], workers=1)
    scan.run(settings, database, request)
    _write(os.fsencode(root) + b"/lux/run2.h5", 2 * MIB)
    scan.run(settings, database, request)
    return root


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """The address that `datamgr web` prints; in the end it has to stop cleanly."""
    argv = [sys.executable, "-m", "datamgr.cli.main", "web", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


def _write(path: bytes, size_bytes: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with Path(os.fsdecode(path)).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
