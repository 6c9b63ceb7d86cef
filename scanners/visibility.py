"""Who may see what of the scans: which projects, and which directories in them.

Staff see everything, and so does whoever owns the embedded database, on a machine of their own.
Others see the projects of whose unix group they are, or PI, or proxy. If no project was
registered, each top-level directory is one: they see those that they or one of their groups own,
or that they can list. In the projects that they see, they see the directories that they could
list by the modes on the path, as these were at the scan, and the files in these.

Totals are shown as they are. Nothing else tells of a directory that is hidden: no name of it, or
of anything below it. See `scanners.access` and docs/decisions/0014-visibility.md.
"""

from collections.abc import Iterator, Sequence
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
PROJECT = """(:everything OR (p.scan_id, p.number) IN (
    SELECT * FROM unnest(CAST(:project_scans AS bigint[]), CAST(:project_numbers AS bigint[]))))"""
ACCESS = """(:everything OR ({0}.scan_id, {0}.access_id) IN (
    SELECT * FROM unnest(CAST(:rule_scans AS bigint[]), CAST(:rule_numbers AS bigint[]))))"""

# What decides about the projects of published scans. Of top-level directories that stand for
# projects it is the directory itself.
PROJECTS = """
SELECT f.name AS filesystem, p.scan_id, p.number, p.name, p.project_id, d.uid, d.gid, r.requirement,
    bool_or(p.project_id IS NOT NULL) OVER (PARTITION BY p.scan_id) AS registered
FROM scan_project p
JOIN scan s ON s.id = p.scan_id AND s.state = 'published'
JOIN filesystem f ON f.id = s.filesystem_id
LEFT JOIN directory d ON d.scan_id = p.scan_id AND d.path = p.path AND p.project_id IS NULL
LEFT JOIN access_rule r ON r.scan_id = d.scan_id AND r.access_id = d.access_id
"""

# The rules of the scans that answer.
RULES = """
SELECT r.scan_id, r.access_id, r.requirement
FROM access_rule r
WHERE r.scan_id IN (SELECT max(id) FROM scan WHERE state = 'published' GROUP BY filesystem_id)
"""


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


EVERYTHING = Visibility(everything=True)
NOTHING = Visibility()


def of(session: orm.Session, caller: Caller) -> Visibility:
    """What the caller may see of the scans that are published now."""
    if catalog.is_manager(session, caller):
        return EVERYTHING
    own = {project.id for project in catalog.projects_of(session, caller)}
    found = [row for row in session.execute(sa.text(PROJECTS)) if _sees_project(row, own, caller)]
    rules = _met(session.execute(sa.text(RULES)).all(), caller) if found else ()
    return Visibility(
        projects=tuple((row.scan_id, row.number) for row in found),
        rules=rules,
        names=frozenset((row.filesystem, row.name) for row in found),
    )


def _sees_project(row: Any, own: set[int], caller: Caller) -> bool:
    if row.registered:
        # What lies in no project then is nobody's but staff's.
        return row.project_id in own
    return (
        row.uid == caller.uid
        or row.gid in caller.gids
        or (row.requirement is not None and _may(row.requirement, caller))
    )


def _met(rules: Sequence[Any], caller: Caller) -> tuple[InScan, ...]:
    """The rules that the caller meets."""
    return tuple((row.scan_id, row.access_id) for row in rules if _may(row.requirement, caller))


def _may(requirement: str, caller: Caller) -> bool:
    return access.is_met(requirement, caller.uid, caller.gids)


@contextmanager
def reading(settings: Settings) -> Iterator[tuple[orm.Session, Visibility]]:
    """A read-only session, and what whoever runs this process may see with it.

    Raises:
        UnavailableError: the database does not answer.
    """
    caller = identity.current(settings)
    with open_database(settings) as database, database.transaction(read_only=True) as session:
        # A scan that is published between two questions has rules of its own.
        session.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        yield session, of(session, caller)
