"""An installation to look at: a scan of /usr with a past that is made up, and, for root, a project
of a beamline on a disk of its own with an archive, requests, and the services that serve them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import catalog, config, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import open_database
from scanners import scan

ROOT = b"/usr"
WEEKS = 12
DAY_S = 86_400
GIB, MIB = 1 << 30, 1 << 20
PROGRAM = [sys.executable, "-m", "datamgr.cli.main"]
STAFF = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
# Name of the project: its quota of space in GiB, of inodes, and what part of it a week adds.
PROJECTS = {
    "lib": (4, 300_000, 0.03),
    "share": (1, 100_000, 0.012),
    "bin": (0.5, 5_000, 0.0),
    "include": (None, None, 0.0),
    "local": (2, 50_000, 0.05),
}
# Directories of the beamline's project: files, the size of each in MiB, age in days, owner.
RUNS = {
    "2023/run17": (6, 4, 900, "games"),
    "2024/run31": (8, 3, 420, "games"),
    "2025/run40": (5, 5, 130, "backup"),
    "2025/run41": (4, 2, 60, "backup"),
    "2025/run42": (9, 1, 3, "games"),
    "analysis": (12, 0.2, 20, "backup"),
}
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
CONFIG = """
state_dir = "{folder}/state"
[tiering]
socket = "{folder}/run/tier.sock"
[tier.beamline]
root = "{disk}/beamline"
archive = "{folder}/archive"
[tier.beamline.policy.cold]
action = "punch"
older_than_s = "90d"
basis = "mtime"
[tier.beamline.policy.nightly]
action = "put"
older_than_s = "2d"
basis = "mtime"
[pitoolbox]
roots = ["{disk}"]
min_uid = 1
min_gid = 1
lister_socket = "{folder}/run/lister.sock"
"""


@dataclass(frozen=True)
class Site:
    """The link that `datamgr web` printed, and the directory of the beamline's project."""

    address: str
    beamline: Path | None


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """An installation below `folder`, until the end of the block."""
    with ExitStack() as stack:
        (folder / "run").mkdir()
        os.environ["DATAMGR_STATE_DIR"] = str(folder / "state")
        disk = stack.enter_context(_disk(folder)) if os.geteuid() == 0 else None
        if disk is not None:
            (folder / "datamgr.toml").write_text(CONFIG.format(folder=folder, disk=disk))
            os.environ["DATAMGR_CONFIG"] = str(folder / "datamgr.toml")
        settings = config.load()
        stack.callback(subprocess.run, [*PROGRAM, "db", "stop"], check=True)
        _scan_usr(settings)
        if disk is not None:
            stack.enter_context(_beamline(settings, disk))
        address = stack.enter_context(_process("web", "--port", "0"))
        yield Site(address, None if disk is None else disk / "beamline")


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    image, disk = folder / "disk.img", folder / "cfs"
    disk.mkdir()
    (folder / "archive").mkdir(mode=0o700)
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def _scan_usr(settings: Settings) -> None:
    """Register the projects, scan, and make up the weeks before."""
    with open_database(settings) as database:
        with database.transaction() as session:
            for name, (space, inodes, _) in PROJECTS.items():
                path = ROOT + b"/" + name.encode()
                quota = None if space is None else int(space * GIB)
                change = ProjectChange(path=path, quota_bytes=quota, quota_inodes=inodes)
                catalog.add_project(session, STAFF, name, change)
        scan.run(settings, database, scan.ScanRequest("usr", [ROOT]))
        with database.transaction() as session:
            for number, (name, (_, _, growth)) in enumerate(PROJECTS.items(), 1):
                _make_history(session, name, number, growth)


def _make_history(session: orm.Session, name: str, number: int, growth: float) -> None:
    """A history of WEEKS for a project, up to what the scan found."""
    for week in range(1, WEEKS + 1):
        noise = ((week * 37 + number * 11) % 7 - 3) / 500
        part = 1 - growth * week + noise
        asked = {"name": name, "week": week, "age": timedelta(weeks=week), "part": part}
        session.execute(sa.text(HISTORY), asked)


@contextmanager
def _beamline(settings: Settings, disk: Path) -> Iterator[None]:
    """Files of several years, some of them archived, and the services of permissions."""
    root = disk / "beamline"
    for folder, (files, size_mib, age_d, owner) in RUNS.items():
        (root / folder).mkdir(parents=True)
        for number in range(files):
            _write(root / folder / f"scan_{number + 1:03}.h5", int(size_mib * MIB), age_d, owner)
    with ExitStack() as services:
        with open_database(settings) as database:
            change = ProjectChange(
                os.fsencode(root), "games", quota_bytes=100 * MIB, quota_inodes=500
            )
            with database.transaction() as session:
                catalog.add_project(session, STAFF, "beamline", change)
            request = scan.ScanRequest("cfs", [os.fsencode(disk)])
            scan.run(settings, database, request)
            with database.transaction() as session:
                _make_history(session, "beamline", 6, 0.04)
            for name in (("perms", "lister"), ("perms", "worker"), ("tier", "daemon")):
                services.enter_context(_process(*name, says_address=False))
            _until(settings.tier_socket)
            old = [root / name for name in ("2023", "2024", "2025/run40", "2025/run41")]
            _ghi("put", "-R", *old)
            _ghi("punch", "-R", "--unguarded", old[0], root / "2024/run31/scan_001.h5")
            _ghi("pin", root / "2025/run41/scan_001.h5")
            _write(root / "2025/run41/scan_002.h5", 3 * MIB, 1, "backup")
            scan.run(settings, database, request)
        yield


def _write(path: Path, size_bytes: int, age_d: float, owner: str) -> None:
    path.write_bytes(os.urandom(size_bytes))
    os.chown(path, identity.uid_of(owner), -1)
    when = time.time() - age_d * DAY_S
    os.utime(path, (when, when))


def _ghi(*arguments: str | Path) -> None:
    subprocess.run([*PROGRAM, "ghi", *arguments], check=True, stdout=subprocess.DEVNULL)


def _until(socket: Path) -> None:
    while not socket.exists():
        time.sleep(0.05)


@contextmanager
def _process(*arguments: str, says_address: bool = True) -> Iterator[str]:
    """A service until the end, and the link that `datamgr web` prints."""
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield next(iter(process.stdout or ())).strip() if says_address else ""
        finally:
            process.send_signal(signal.SIGTERM)
