"""Who may see what of the scans: which projects, and which directories in them.

Staff see everything, and so does whoever owns the embedded database, on a machine of their own.
Others see the projects of whose unix group they are, or PI, or proxy. If no project was
registered, each top-level directory is one: they see those that they or one of their groups own,
or that they can list. In the projects that they see, they see the directories that they could
list by the modes on the path, as these were at the scan, and the files in these.

Totals are shown as they are. Nothing else tells of a directory that is hidden: no name of it, or
of anything below it. See `scanners.access` and docs/decisions/0014-visibility.md.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import catalog, identity
from datamgr.config import Settings
from datamgr.db import open_database
from datamgr.identity import Caller
from scanners import access

# A project of a scan, or a rule of one.
InScan = tuple[int, int]

# Conditions of queries for `scan_project p` and for a `directory` or `top_file` of any name; their
# parameters are those of a Visibility.
# The numbers alone are in PROJECT so that PostgreSQL expects few rows, and looks them up: of the
# pairs it guesses that they are half of the table.
PROJECT = """(:everything OR (p.number = ANY(CAST(:project_numbers AS bigint[]))
    AND (p.scan_id, p.number) IN (SELECT * FROM unnest(
        CAST(:project_scans AS bigint[]), CAST(:project_numbers AS bigint[])))))"""
ACCESS = """(:everything OR ({0}.scan_id, {0}.access_id) IN (
    SELECT * FROM unnest(CAST(:rule_scans AS bigint[]), CAST(:rule_numbers AS bigint[]))))"""

# Somebody's registered projects in published scans. What lies in no project of a scan that has
# registered ones is nobody's but staff's.
OWN = f"""
SELECT f.name AS filesystem, p.scan_id, p.number, p.name
FROM scan_project p
JOIN scan s ON s.id = p.scan_id AND s.state = 'published'
JOIN filesystem f ON f.id = s.filesystem_id
WHERE p.project_id IN ({catalog.OF_CALLER})
"""

# What decides about the projects of published scans in which none is registered: the top-level
# directory that stands for each.
TOP_LEVEL = """
SELECT f.name AS filesystem, p.scan_id, p.number, p.name, d.uid, d.gid, r.requirement
FROM scan s
JOIN scan_project p ON p.scan_id = s.id
JOIN filesystem f ON f.id = s.filesystem_id
LEFT JOIN directory d ON d.scan_id = p.scan_id AND d.path = p.path
LEFT JOIN access_rule r ON r.scan_id = d.scan_id AND r.access_id = d.access_id
WHERE s.state = 'published' AND NOT EXISTS (
    SELECT FROM scan_project o WHERE o.scan_id = s.id AND o.project_id IS NOT NULL)
"""

# The scans that answer, and when each was published: again, if its rules are others.
CURRENT = """
SELECT s.id, s.published_at FROM scan s
WHERE s.id IN (SELECT max(id) FROM scan WHERE state = 'published' GROUP BY filesystem_id)
ORDER BY s.id
"""
RULES = "SELECT r.access_id, r.requirement FROM access_rule r WHERE r.scan_id = :scan_id"
# Rules that a process remembers to be met, of all accounts and scans; they take 100 bytes each.
REMEMBERED = 2_000_000


@dataclass(frozen=True)
class Visibility:
    """What one caller may see; made by `of` and taken by every query.

    `names` are file system and name of each project, for what outlives the scans.
    """

    everything: bool = False
    projects: tuple[InScan, ...] = ()
    rules: tuple[InScan, ...] = ()
    names: frozenset[tuple[str, str]] = frozenset()

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of PROJECT and ACCESS."""
        return {
            "everything": self.everything,
            "project_scans": [scan for scan, _ in self.projects],
            "project_numbers": [number for _, number in self.projects],
            "rule_scans": [scan for scan, _ in self.rules],
            "rule_numbers": [number for _, number in self.rules],
        }

    def sees(self, filesystem: str, project: str) -> bool:
        """Whether the totals of a project on a file system are visible, of whatever scan."""
        return self.everything or (filesystem, project) in self.names

    def sees_on_any(self, project: str) -> bool:
        """As `sees`, on one file system at least."""
        return self.everything or any(project == name for _, name in self.names)


_remembered: OrderedDict[tuple[Any, ...], tuple[InScan, ...]] = OrderedDict()
_lock = threading.Lock()

EVERYTHING = Visibility(everything=True)
NOTHING = Visibility()


def of(session: orm.Session, caller: Caller) -> Visibility:
    """What the caller may see of the scans that are published now."""
    if catalog.is_manager(session, caller):
        return EVERYTHING
    found = list(session.execute(sa.text(OWN), catalog.parameters_of(caller)))
    top_level = session.execute(sa.text(TOP_LEVEL))
    found += [row for row in top_level if _sees_top_level(row, caller)]
    return Visibility(
        projects=tuple((row.scan_id, row.number) for row in found),
        rules=_rules(session, caller) if found else (),
        names=frozenset((row.filesystem, row.name) for row in found),
    )


def _sees_top_level(row: Any, caller: Caller) -> bool:
    return (
        row.uid == caller.uid
        or row.gid in caller.gids
        or (row.requirement is not None and _may(row.requirement, caller))
    )


def _rules(session: orm.Session, caller: Caller) -> tuple[InScan, ...]:
    """The rules of the scans that answer which the caller meets.

    A published scan keeps its rules, of which a large one has a hundred thousand: what an account
    with these groups meets of them is remembered.
    """
    found: list[InScan] = []
    for scan in session.execute(sa.text(CURRENT)):
        # Scans have numbers of their own in each database.
        engine = session.get_bind()
        key = (id(engine), scan.id, scan.published_at, caller.uid, caller.gids)
        with _lock:
            met = _remembered.get(key)
            if met is not None:
                _remembered.move_to_end(key)
        if met is None:
            rules = session.execute(sa.text(RULES), {"scan_id": scan.id})
            met = tuple((scan.id, row.access_id) for row in rules if _may(row.requirement, caller))
            with _lock:
                _remembered[key] = met
                while sum(1 + len(each) for each in _remembered.values()) > REMEMBERED:
                    _remembered.popitem(last=False)
        found += met
    return tuple(found)


def _may(requirement: str, caller: Caller) -> bool:
    return access.is_met(requirement, caller.uid, caller.gids)


@contextmanager
def reading(settings: Settings) -> Iterator[tuple[orm.Session, Visibility]]:
    """A read-only session, and what whoever runs this process may see with it.

    Raises:
        UnavailableError: the database does not answer.
    """
    caller = identity.current(settings)
    # A scan that is published between two questions has rules of its own.
    with open_database(settings) as database, database.snapshot() as session:
        yield session, of(session, caller)
