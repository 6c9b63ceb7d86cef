"""A store as large as a centre's, published, and those who look at it."""

import grp
import pwd
import random
import shutil
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import orm

from benchmarks import stores
from datamgr import display, identity, sessions
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller
from datamgr.sessions import Origin
from scanners import publish, visibility
from scanners.store import ScanStore

FILESYSTEM = "synthetic"
# Accounts that every Debian has, each with a group of its own.
ORDINARY = ("daemon", "bin", "sys", "man", "lp", "mail", "news", "uucp", "proxy", "www-data")
PIS = ("backup", "list", "irc")
STAFF = "games"
MOST_PROJECTS = 3
NIGHTS = 120
MEMBERS = 20

PROJECTS = """
INSERT INTO project (name, path, unix_group, quota_bytes, quota_inodes)
SELECT name, path, unix_group, (2e9 * (1 + n % 50))::bigint, 20000 * (1 + n % 7)
FROM unnest(CAST(:names AS text[]), CAST(:paths AS bytea[]), CAST(:groups AS text[]))
    WITH ORDINALITY AS t (name, path, unix_group, n)
"""
MEMBERS_OF = "INSERT INTO project_member (project_id, username, role) SELECT id, :pi, 'pi' \
FROM project WHERE name = ANY(:names)"
# What earlier nights would have left of each project.
HISTORY = f"""
INSERT INTO project_history (scan_id, filesystem, project, scanned_at, files, directories,
    size_bytes, alloc_bytes, files_all_links, size_all_bytes, alloc_all_bytes, quota_bytes,
    quota_inodes)
SELECT -n, h.filesystem, h.project, h.scanned_at - n * interval '1 day',
    (h.files * part)::bigint, h.directories, (h.size_bytes * part)::bigint,
    (h.alloc_bytes * part)::bigint, h.files_all_links, h.size_all_bytes, h.alloc_all_bytes,
    h.quota_bytes, h.quota_inodes
FROM project_history h,
    LATERAL (SELECT n, 1 - n / 400.0 + random() / 50 AS part FROM generate_series(1, {NIGHTS}) n) t
WHERE h.scan_id = :scan_id
"""
# Directories that somebody sees, far down.
DEEP = f"""
SELECT d.path FROM directory d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
WHERE d.scan_id = :scan_id AND d.depth >= 4 AND p.name = ANY(:names)
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
ORDER BY md5(d.path)
LIMIT 30
"""


@dataclass(frozen=True)
class Person:
    """Who asks: an account with its cookie, its projects, and directories in them."""

    username: str
    cookie: str
    projects: list[str]
    tops: list[str]
    deep: list[str]


def shape_of(projects: int, directories: int, files: int) -> stores.Shape:
    """A twentieth of the files lie in one directory, the top of the first project."""
    gids = [pwd.getpwnam(name).pw_gid for name in (*ORDINARY, *PIS) for _ in range(MOST_PROJECTS)]
    crowded = (2, files // 20)
    return stores.Shape(directories, files, projects, gids, MEMBERS, crowded)


def build(settings: Settings, database: Database, shape: stores.Shape) -> int:
    """Two published scans a week apart and the history of a season; the number of the newer."""
    _register(database, shape)
    scan_ids = [stores.register(database, FILESYSTEM) for _ in range(2)]
    with database.transaction() as session:
        # The newer is of last night: pages that say "3 min ago" are others a minute later.
        back = sa.text("UPDATE scan SET started_at = started_at - :back WHERE id = :id")
        for scan_id, days in zip(scan_ids, (7, 0), strict=True):
            session.execute(back, {"back": timedelta(days=days, hours=14), "id": scan_id})
        counted = sa.text("UPDATE scan SET entries = :files, directories = :directories")
        numbers = {"files": shape.files, "directories": shape.directories}
        session.execute(counted, numbers)
    for seed, scan_id in enumerate(scan_ids):
        stores.make_shaped(settings.scan_store_dir, FILESYSTEM, scan_id, shape, seed)
        publish.publish(settings, database, scan_id)
    # Nobody reads the files of the older one.
    shutil.rmtree(ScanStore(settings.scan_store_dir, FILESYSTEM).path(scan_ids[0]))
    with database.transaction() as session:
        session.execute(sa.text(HISTORY), {"scan_id": scan_ids[0]})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    return scan_ids[1]


def people(
    settings: Settings, database: Database, shape: stores.Shape, scan_id: int
) -> dict[str, list[Person]]:
    """Those who are logged in: `users`, `pis` and `staff`."""
    found: dict[str, list[Person]] = {"users": [], "pis": [], "staff": []}
    for place, name in enumerate((*ORDINARY, *PIS)):
        kind = "users" if name in ORDINARY else "pis"
        own = _own(place)
        found[kind].append(_person(settings, database, shape, scan_id, name, own))
    some = list(range(0, shape.projects, max(1, shape.projects // 10)))
    found["staff"].append(_person(settings, database, shape, scan_id, STAFF, some))
    return found


def name_of(project: int) -> str:
    """What a project is called; projects count from 0."""
    return f"m{project:04}"


def _own(place: int) -> list[int]:
    """The projects of an account: one to three."""
    begin = place * MOST_PROJECTS
    return list(range(begin, begin + 1 + place % MOST_PROJECTS))


def _register(database: Database, shape: stores.Shape) -> None:
    numbers = range(shape.projects)
    own = {n: account for p, account in enumerate((*ORDINARY, *PIS)) for n in _own(p)}
    groups = [
        grp.getgrgid(pwd.getpwnam(own[n]).pw_gid).gr_name if n in own else str(20_000 + n)
        for n in numbers
    ]
    values = {
        "names": [name_of(n) for n in numbers],
        "paths": [b"/synth/dir-%06x" % shape.top(n) for n in numbers],
        "groups": groups,
    }
    with database.transaction() as session:
        session.execute(sa.text(PROJECTS), values)
        for n in numbers:
            pi = own[n] if own.get(n) in PIS else str(70_000 + n // 3)
            session.execute(sa.text(MEMBERS_OF), {"pi": pi, "names": [name_of(n)]})


def _person(
    settings: Settings,
    database: Database,
    shape: stores.Shape,
    scan_id: int,
    username: str,
    projects: list[int],
) -> Person:
    caller = identity.by_uid(settings, identity.uid_of(username))
    names = [name_of(n) for n in projects]
    with database.transaction() as session:
        token, _ = sessions.begin(session, settings, caller, Origin("link", "127.0.0.1", ""))
        deep = _deep(session, caller, scan_id, names)
    tops = [display.to_address(b"/synth/dir-%06x" % shape.top(n)) for n in projects]
    random.Random(username).shuffle(deep)
    return Person(username, token, names, tops, [display.to_address(path) for path in deep])


def _deep(session: orm.Session, caller: Caller, scan_id: int, names: list[str]) -> list[bytes]:
    visible = visibility.of(session, caller)
    asked = visible.parameters | {"scan_id": scan_id, "names": names}
    return [bytes(row.path) for row in session.execute(sa.text(DEEP), asked)]
