"""What the centre has: file systems, projects with their quotas, and who belongs to them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr import audit, born, identity
from datamgr.db import Base, Uint64
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller


class ProjectRole(StrEnum):
    """What an account is to a project."""

    PI = "pi"
    PROXY = "proxy"


class FileSystem(Base):
    """A file system by the site's name for it; its current scan is what every answer shows."""

    __tablename__ = "filesystem"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())


class Project(Base):
    """A directory tree with an owner group and quotas. `path` is absolute, without `..`.

    `root_device` and `root_inode` say which directory was at the path when it was registered;
    None in projects of before, until their path is set again. Numbers are given again, so
    `root_born_ns` says when it was made; None where the file system does not.
    """

    __tablename__ = "project"

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    path: orm.Mapped[bytes] = orm.mapped_column(unique=True)
    root_device: orm.Mapped[int | None] = orm.mapped_column(Uint64)
    root_inode: orm.Mapped[int | None] = orm.mapped_column(Uint64)
    root_born_ns: orm.Mapped[int | None]
    unix_group: orm.Mapped[str | None]
    quota_bytes: orm.Mapped[int | None]
    quota_inodes: orm.Mapped[int | None]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    members: orm.Mapped[list["ProjectMember"]] = orm.relationship(
        cascade="all, delete-orphan", lazy="selectin", order_by="ProjectMember.username"
    )

    @property
    def pis(self) -> list[str]:
        """Accounts of the principal investigators."""
        return self._with_role(ProjectRole.PI)

    @property
    def proxies(self) -> list[str]:
        """Accounts that may do for the project what its PIs may."""
        return self._with_role(ProjectRole.PROXY)

    def _with_role(self, role: ProjectRole) -> list[str]:
        return sorted(member.username for member in self.members if member.role == role)


class ProjectMember(Base):
    """An account with a role in a project; ordinary members come from the unix group."""

    __tablename__ = "project_member"

    project_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True
    )
    username: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    role: orm.Mapped[str] = orm.mapped_column(
        sa.CheckConstraint("role IN ('pi', 'proxy')", name="role")
    )


@dataclass(frozen=True)
class ProjectChange:
    """Fields of a project to set; None leaves a field as it is, `NO_QUOTA` takes a quota away."""

    path: bytes | None = None
    unix_group: str | None = None
    quota_bytes: int | None = None
    quota_inodes: int | None = None
    pis: Sequence[str] | None = None
    proxies: Sequence[str] | None = None


NO_QUOTA = 0

# What the index of paths takes. Source: PostgreSQL, "B-Tree Indexes": a third of a page.
MAX_PATH_BYTES = 2600


def filesystem(session: orm.Session, name: str) -> FileSystem:
    """The file system of this name.

    Raises:
        NotFoundError: it was never scanned or imported.
    """
    found = session.scalar(sa.select(FileSystem).where(FileSystem.name == name))
    if found is None:
        raise NotFoundError(f"there is no file system {name!r}; `datamgr scan list` names them")
    return found


def ensure_filesystem(session: orm.Session, name: str) -> FileSystem:
    """The file system of this name, made when it is new.

    Raises:
        InvalidError: the name is empty or would not do as a directory name.
    """
    if not name or len(name) > 100 or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidError(
            f"{name!r} is no name for a file system; use letters, digits, - and _, such as cfs"
        )
    session.execute(
        postgresql.insert(FileSystem)
        .values(name=name)
        .on_conflict_do_nothing(index_elements=[FileSystem.name])
    )
    return filesystem(session, name)


def project(session: orm.Session, name: str) -> Project:
    """The project of this name.

    Raises:
        NotFoundError: there is none.
    """
    found = session.scalar(sa.select(Project).where(Project.name == name))
    if found is None:
        raise NotFoundError(f"there is no project {name!r}; `datamgr project list` names them")
    return found


def projects(session: orm.Session) -> list[Project]:
    """All registered projects by name."""
    return list(session.scalars(sa.select(Project).order_by(Project.name)))


def add_project(session: orm.Session, caller: Caller, name: str, change: ProjectChange) -> Project:
    """Register a project; `change.path` is needed.

    Raises:
        ForbiddenError: the caller may not manage projects.
        NotFoundError: path, group or account does not exist.
        InvalidError: the path is no directory, or the name is not printable.
        ConflictError: name or path belong to another project.
    """
    require_manager(session, caller, "change projects")
    if not name or not name.isprintable() or len(name) > 200:
        raise InvalidError(f"{name!r} is no name for a project")
    if session.scalar(sa.select(Project).where(Project.name == name)):
        raise ConflictError(f"project {name!r} exists; change it by `datamgr project set {name}`")
    if change.path is None:
        raise InvalidError(f"project {name!r} needs a path")
    added = Project(name=name)
    _apply(session, added, change)
    session.add(added)
    _flush(session, added)
    audit.record(session, caller, "project.add", name, _detail(added))
    return added


def set_project(session: orm.Session, caller: Caller, name: str, change: ProjectChange) -> Project:
    """Change a project.

    Raises:
        ForbiddenError, NotFoundError, InvalidError, ConflictError: as `add_project`.
    """
    require_manager(session, caller, "change projects")
    changed = project(session, name)
    before = _detail(changed)
    _apply(session, changed, change)
    _flush(session, changed)
    audit.record(
        session, caller, "project.set", name, {"before": before, "after": _detail(changed)}
    )
    return changed


def remove_project(session: orm.Session, caller: Caller, name: str) -> Project:
    """Forget a project; its files and its history of usage stay.

    Raises:
        ForbiddenError: the caller may not manage projects.
        NotFoundError: there is none of this name.
    """
    require_manager(session, caller, "change projects")
    removed = project(session, name)
    audit.record(session, caller, "project.remove", name, _detail(removed))
    session.delete(removed)
    session.flush()
    return removed


def require_manager(session: orm.Session, caller: Caller, action: str) -> None:
    """Stop anybody but staff and, on an own machine, whoever owns the embedded database.

    Raises:
        ForbiddenError: the caller is neither.
    """
    if not is_manager(session, caller):
        raise ForbiddenError(f"{caller.username} may not {action}: that is for staff")


def is_manager(session: orm.Session, caller: Caller) -> bool:
    """Whether the caller is staff or, on an own machine, whoever owns the embedded database."""
    # A session is this process': it says nothing of somebody else for whom the process asks.
    return caller.is_staff or (caller.uid == os.getuid() and _owns_database(session))


def projects_of(session: orm.Session, caller: Caller) -> list[Project]:
    """The registered projects of whose unix group the caller is, or PI, or proxy."""
    own = sa.text(OF_CALLER).bindparams(**parameters_of(caller)).columns(Project.id)
    wanted = sa.select(Project).where(Project.id.in_(own)).order_by(Project.name)
    return list(session.scalars(wanted))


# The registered projects of a caller, by number, for queries that go on from there.
OF_CALLER = """
SELECT q.id FROM project q WHERE q.unix_group = ANY(:own_groups)
UNION
SELECT m.project_id FROM project_member m WHERE m.username = ANY(:own_names)
"""


def parameters_of(caller: Caller) -> dict[str, list[str]]:
    """The parameters of OF_CALLER; groups and accounts may have been registered by number."""
    groups = {name for gid in caller.gids for name in (identity.group_name_of(gid), str(gid))}
    return {
        "own_groups": sorted(groups),
        "own_names": sorted({caller.username, str(caller.uid)}),
    }


def real_directory(path: str | bytes) -> bytes:
    """The absolute path of a directory, symbolic links resolved.

    Raises:
        NotFoundError: it does not exist.
        InvalidError: it is no directory, or cannot be reached.
    """
    shown = os.fsdecode(path)
    try:
        real = os.path.realpath(os.fsencode(path), strict=True)
    except FileNotFoundError as error:
        raise NotFoundError(f"{shown} does not exist") from error
    except (OSError, ValueError) as error:
        raise InvalidError(f"{shown} cannot be reached: {error}") from error
    if not Path(os.fsdecode(real)).is_dir():
        raise InvalidError(f"{shown} is no directory")
    return real


def _owns_database(session: orm.Session) -> bool:
    """Whether this session's role owns the database: the embedded one of an ordinary user."""
    owner = session.scalar(
        sa.text(
            "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database"
            " WHERE datname = current_database()"
        )
    )
    return bool(owner)


def _apply(session: orm.Session, target: Project, change: ProjectChange) -> None:
    if change.path is not None:
        path = real_directory(change.path)
        shown = os.fsdecode(path)
        if len(path) > MAX_PATH_BYTES:
            raise InvalidError(f"{shown} is too long: at most {MAX_PATH_BYTES} bytes")
        other = session.scalar(sa.select(Project).where(Project.path == path))
        if other is not None and other is not target:
            raise ConflictError(f"{shown} is the path of project {other.name!r} already")
        # Which directory was meant, whatever stands at the path later.
        root = Path(os.fsdecode(path)).stat()
        target.path, target.root_device, target.root_inode = path, root.st_dev, root.st_ino
        target.root_born_ns = born.born_ns(path)
    if change.unix_group is not None:
        identity.gid_of(change.unix_group)
        target.unix_group = change.unix_group
    if change.quota_bytes is not None:
        target.quota_bytes = change.quota_bytes or None
    if change.quota_inodes is not None:
        target.quota_inodes = change.quota_inodes or None
    if change.pis is not None:
        _set_members(target, ProjectRole.PI, change.pis)
    if change.proxies is not None:
        _set_members(target, ProjectRole.PROXY, change.proxies)


def _set_members(target: Project, role: ProjectRole, usernames: Sequence[str]) -> None:
    """Make these the accounts of a role; who becomes PI is proxy no more, and the reverse."""
    for username in usernames:
        identity.uid_of(username)
    named = dict.fromkeys(usernames)
    kept = [m for m in target.members if m.role != role and m.username not in named]
    # A row that stays is changed, not replaced: the new one would meet it in the primary key.
    rows = {member.username: member for member in target.members}
    for username in named:
        row = rows.get(username) or ProjectMember(username=username)
        row.role = role
        kept.append(row)
    target.members = kept


def _flush(session: orm.Session, changed: Project) -> None:
    """Write a project, unless somebody else was faster since the checks."""
    name = changed.name
    try:
        session.flush()
    except sa.exc.IntegrityError as error:
        raise ConflictError(
            f"name or path of project {name!r} were just given to another; look and try again"
        ) from error


def _detail(target: Project) -> dict[str, object]:
    return {
        "path": os.fsdecode(target.path).encode("utf-8", "replace").decode(),
        "group": target.unix_group,
        "quota_bytes": target.quota_bytes,
        "quota_inodes": target.quota_inodes,
        "pis": target.pis,
        "proxies": target.proxies,
    }
