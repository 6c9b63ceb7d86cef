"""The web pages over a real scan, asked by whom a test names."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from datamgr import catalog
from datamgr.api import deps
from datamgr.api.app import create_app
from datamgr.api.auth import Access
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller, Role
from scanners import scan
from tests import served
from tests.people import person

TOKEN = "k" * 43
MIB = 1 << 20
DAY_S = 86_400
COSMO = 60_101
STAFF = person("root", 0, role=Role.STAFF)
ADA = person("ada", 60_001, COSMO)
STRANGER = person("stranger", 60_006)
NAMES = [
    b"<img src=x onerror=alert(1)>",
    b'=HYPERLINK("evil.example";"x")',
    b"+cmd|' C calc'!A0",
    b"\"quoted\" 'and' `ticked`",
    b"turned\xe2\x80\xaegpj.exe",
    b"two\nlines\rand\ttabs",
    b"no utf8 \xff\xfe",
    b"%2e%2e%2f&a=b#c?d",
    b"l" * 255,
]

As = Callable[[Caller], httpx.Client]


def write(path: bytes, size_bytes: int, age_d: float = 0) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.posix_fallocate(descriptor, 0, size_bytes)
    os.close(descriptor)
    when = time.time() - age_d * DAY_S
    os.utime(path, (when, when))


@pytest.fixture
def tree(database: Database) -> Iterator[Path]:
    """Two registered projects: cosmo of ada's group over its quota of 3 MiB, lux of nobody's."""
    with tempfile.TemporaryDirectory(prefix="datamgr-test-", dir="/var/tmp") as folder:
        # Where everybody reaches it, unlike pytest's own directories.
        Path(folder).chmod(0o711)
        root = Path(folder) / "cfs"
        _fill(root, database)
        yield root


def _fill(root: Path, database: Database) -> None:
    base = os.fsencode(root)
    write(base + b"/cosmo/runs/snap_001.hdf5", 3 * MIB, age_d=800)
    write(base + b"/cosmo/runs/snap_002.hdf5", 1 * MIB, age_d=40)
    write(base + b"/lux/raw/run1.h5", 1 * MIB)
    changes = {
        "cosmo": ProjectChange(
            os.fsencode(root / "cosmo"), str(COSMO), quota_bytes=3 * MIB, quota_inodes=100
        ),
        "lux": ProjectChange(os.fsencode(root / "lux")),
    }
    with database.transaction() as session:
        for name, change in changes.items():
            catalog.add_project(session, STAFF, name, change)


@pytest.fixture
def rescan(settings: Settings, database: Database, tree: Path) -> Callable[[], int]:
    """Scans the tree once more."""
    request = scan.ScanRequest("cfs", [os.fsencode(tree)], workers=1)
    return lambda: scan.run(settings, database, request)


@pytest.fixture
def scanned(tree: Path, rescan: Callable[[], int]) -> Path:
    """The tree, scanned once."""
    rescan()
    return tree


@contextmanager
def serving(settings: Settings, database: Database, caller: Caller) -> Iterator[httpx.Client]:
    app = create_app(settings, database, Access(TOKEN))
    app.dependency_overrides[deps.account] = lambda: caller
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        served.serving(app) as address,
        httpx.Client(base_url=address, headers=headers) as client,
    ):
        yield client


@pytest.fixture
def as_(settings: Settings, database: Database) -> Iterator[As]:
    """Clients of servers that take everybody for one caller."""
    with ExitStack() as stack:
        yield lambda caller: stack.enter_context(serving(settings, database, caller))


@pytest.fixture
def client(as_: As) -> httpx.Client:
    """Staff, who see everything."""
    return as_(STAFF)
