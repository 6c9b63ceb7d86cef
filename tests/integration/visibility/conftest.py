"""A tree with every kind of directory, its people, and what each of them is asked."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import catalog
from datamgr.catalog import ProjectChange, ProjectMember, ProjectRole
from datamgr.config import Settings
from datamgr.db import Database, make_engine
from datamgr.identity import Caller, Role
from scanners import scan
from tests import databases
from tests.people import grant, make, person

COSMO, LAB, ALL = 60_101, 60_102, 60_100
ADA = person("ada", 60_001, COSMO, ALL)
BOB = person("bob", 60_002, COSMO, LAB)
CY = person("cy", 60_003, LAB)
PI = person("pi", 60_004, ALL)
PROXY = person("proxy", 60_005, ALL)
STRANGER = person("stranger", 60_006, ALL)
NOBODY = person("60007", 60_007)
STAFF = person("staff", 60_008, ALL, role=Role.STAFF)
PEOPLE = (ADA, BOB, CY, PI, PROXY, STRANGER, NOBODY)


@dataclass(frozen=True)
class Scanned:
    """A published scan of a tree; `tops` are the paths of projects with who may see them."""

    root: Path
    tops: dict[Path, set[Caller]]
    settings: Settings
    database: Database

    @property
    def directories(self) -> list[bytes]:
        return [os.fsencode(path) for path, _, _ in os.walk(self.root)]

    def again(self) -> int:
        request = scan.ScanRequest("fs", [os.fsencode(self.root)], workers=1)
        return scan.run(self.settings, self.database, request)


@contextmanager
def tree() -> Iterator[Path]:
    """Directories of which each has a name of its own, where everybody reaches them."""
    with tempfile.TemporaryDirectory(prefix="datamgr-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        root = make(Path(folder) / "fs", 0o755)
        cosmo = make(root / "cosmo", 0o2770, 0, COSMO)
        make(cosmo / "wide", 0o775, ADA.uid, COSMO)
        make(cosmo / "wide/wider", 0o755, ADA.uid, COSMO)
        make(cosmo / "secret", 0o700, ADA.uid, COSMO)
        make(cosmo / "secret/below", 0o777, BOB.uid, COSMO)
        make(cosmo / "shut-to-owner", 0o070, BOB.uid, COSMO)
        make(cosmo / "shut-to-group", 0o705, ADA.uid, LAB)
        make(cosmo / "passage", 0o711, ADA.uid, COSMO)
        make(cosmo / "passage/chamber", 0o755, BOB.uid, COSMO)
        make(cosmo / "names-only", 0o744, ADA.uid, COSMO)
        make(cosmo / "nested", 0o711, ADA.uid, LAB)
        make(cosmo / "nested/project", 0o755, CY.uid, LAB)
        make(cosmo / "nested/project/innermost", 0o750, CY.uid, LAB)
        make(cosmo / "listed", 0o700, ADA.uid, COSMO)
        grant(cosmo / "listed", BOB.uid, 5)
        lab = make(root / "lab", 0o751, CY.uid, LAB)
        make(lab / "raw-data", 0o755, CY.uid, LAB)
        make(lab / "bobs", 0o700, BOB.uid, LAB)
        make(root / "software", 0o755)
        make(root / "software/hidden-part", 0o700)
        make(root / "vault", 0o700)
        make(root / "vault/open-inside", 0o777)
        yield root


@contextmanager
def scanned_tree(server: sa.Engine, template: Path, *, registered: bool) -> Iterator[Scanned]:
    """A scan of the tree in a database of its own, with projects or without."""
    with databases.fresh(server) as url, tree() as root:
        engine = make_engine(url, 10)
        settings = databases.settings(url, template / "state")
        tops = (register if registered else top_level)(root, Database(engine))
        scanned = Scanned(root, tops, settings, Database(engine))
        scanned.again()
        yield scanned
        engine.dispose()


def register(root: Path, database: Database) -> dict[Path, set[Caller]]:
    """The projects cosmo, lab and one inside cosmo, which only members of lab may see."""
    staff = person("root", 0, role=Role.STAFF)
    inner = root / "cosmo/nested/project"
    projects = {
        "cosmo": ProjectChange(os.fsencode(root / "cosmo"), str(COSMO), pis=[str(PI.uid)]),
        "lab": ProjectChange(os.fsencode(root / "lab"), str(LAB)),
        "inner": ProjectChange(os.fsencode(inner), str(LAB)),
    }
    with database.transaction() as session:
        for name, change in projects.items():
            added = catalog.add_project(session, staff, name, change)
            if name == "lab":
                added.members.append(ProjectMember(username=PROXY.username, role=ProjectRole.PROXY))
    return {root / "cosmo": {ADA, BOB, PI}, root / "lab": {BOB, CY, PROXY}, inner: {BOB, CY}}


def top_level(root: Path, database: Database) -> dict[Path, set[Caller]]:
    """Without projects, so that each directory in the root is one."""
    return {
        root: set(PEOPLE),
        root / "cosmo": {ADA, BOB},
        root / "lab": {BOB, CY},
        root / "software": set(PEOPLE),
        root / "vault": set(),
    }


@pytest.fixture(scope="session")
def registered(server: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanned]:
    """With projects; for tests that only read."""
    folder = tmp_path_factory.mktemp("registered")
    with scanned_tree(server, folder, registered=True) as scanned:
        yield scanned


@pytest.fixture(scope="session")
def unregistered(server: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanned]:
    """Without projects; for tests that only read."""
    folder = tmp_path_factory.mktemp("unregistered")
    with scanned_tree(server, folder, registered=False) as scanned:
        yield scanned


@pytest.fixture
def changing(server: sa.Engine, tmp_path: Path) -> Iterator[Scanned]:
    """With projects; for one test."""
    with scanned_tree(server, tmp_path, registered=True) as scanned:
        yield scanned
