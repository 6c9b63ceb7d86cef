"""Quotas as the file systems keep them: which project each belongs to, and what was reported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr import audit, catalog
from datamgr.catalog import ProjectChange
from datamgr.db import Base
from datamgr.errors import InvalidError, NotFoundError
from datamgr.identity import Caller
from datamgr.quota_formats import QuotaLine


class QuotaReport(Base):
    """What a quota system said of a project at a time; its own count of what is used.

    0 is no quota, NULL is unknown.
    """

    __tablename__ = "quota_report"

    project_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True
    )
    reported_at: orm.Mapped[datetime] = orm.mapped_column(primary_key=True)
    source: orm.Mapped[str]
    usage_bytes: orm.Mapped[int | None]
    usage_inodes: orm.Mapped[int | None]
    quota_bytes: orm.Mapped[int | None]
    quota_inodes: orm.Mapped[int | None]


@dataclass(frozen=True)
class Report:
    """The lines of one report; `source` is its format, `hard` prefers hard limits to soft ones.

    `mapping` gives projects for names that are not theirs.
    """

    source: str
    reported_at: datetime
    lines: Iterable[QuotaLine]
    mapping: Mapping[str, str]
    hard: bool = False


@dataclass(frozen=True)
class Match:
    """One line and its project; `project` is None where no project has any of the names."""

    line: QuotaLine
    project: str | None
    project_id: int | None
    quota_bytes: int | None
    quota_inodes: int | None
    changed: bool


def match(session: orm.Session, caller: Caller, report: Report) -> list[Match]:
    """Find the project of each line: by the mapping, else by its own name.

    Raises:
        ForbiddenError: the caller may not change projects.
        NotFoundError: the mapping names a project that there is not.
        InvalidError: two lines are about the same project.
    """
    catalog.require_manager(session, caller, "change quotas")
    projects = {project.name: project for project in catalog.projects(session)}
    for name, project in report.mapping.items():
        if project not in projects:
            raise NotFoundError(
                f"the map gives {name!r} to project {project!r}, which is not there"
            )
    lines_of: dict[str, int] = {}
    found = []
    for line in report.lines:
        mapped = (report.mapping.get(name, name) for name in line.names)
        target = next((projects[name] for name in mapped if name in projects), None)
        quota_bytes = line.quota_bytes.effective(hard=report.hard)
        quota_inodes = line.quota_inodes.effective(hard=report.hard)
        if target is None:
            found.append(Match(line, None, None, quota_bytes, quota_inodes, False))
            continue
        if other := lines_of.get(target.name):
            raise InvalidError(
                f"lines {other} and {line.number} are both about project {target.name!r}; "
                "report one file system at a time, or tell them apart by --map"
            )
        lines_of[target.name] = line.number
        changed = _differs(target.quota_bytes, quota_bytes) or _differs(
            target.quota_inodes, quota_inodes
        )
        found.append(Match(line, target.name, target.id, quota_bytes, quota_inodes, changed))
    return found


def _differs(kept: int | None, reported: int | None) -> bool:
    """Whether a reported quota is another; what is unknown changes nothing."""
    return reported is not None and (reported or None) != kept


def apply(session: orm.Session, caller: Caller, report: Report, matches: Iterable[Match]) -> None:
    """Set the quotas that differ and keep what was reported; repeating it changes nothing.

    Raises:
        ForbiddenError, NotFoundError: as `catalog.set_project`.
    """
    kept: list[dict[str, Any]] = []
    for found in matches:
        if found.project is None:
            continue
        if found.changed:
            change = ProjectChange(quota_bytes=found.quota_bytes, quota_inodes=found.quota_inodes)
            catalog.set_project(session, caller, found.project, change)
        kept.append(
            {
                "project_id": found.project_id,
                "reported_at": report.reported_at,
                "source": report.source,
                "usage_bytes": found.line.usage_bytes,
                "usage_inodes": found.line.usage_inodes,
                "quota_bytes": found.quota_bytes,
                "quota_inodes": found.quota_inodes,
            }
        )
    if kept:
        statement = postgresql.insert(QuotaReport).values(kept)
        excluded = {c.name: c for c in statement.excluded if not c.primary_key}
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["project_id", "reported_at"], set_=excluded
            )
        )
    audit.record(session, caller, "project.quotas", report.source, {"projects": len(kept)})
