"""The files that a policy of a managed root is about, by the newest scan, and the state of each."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import orm

from datamgr.config import Settings
from datamgr.config_tier import PolicySettings, TierSettings
from datamgr.errors import NotFoundError
from scanners import find, places, queries
from scanners.find import Question
from scanners.places import Place
from scanners.queries import Row, Selection
from scanners.visibility import Visibility
from tiering import scanned
from tiering.scanned import File, Managed, State

# Asked of tiering by one query.
_PORTION = 5000
_COLUMNS = ("path", "uid", "size_bytes", "alloc_bytes", "nlink", "mtime_s", "ino", "scan_id")


@dataclass(frozen=True)
class Reader:
    """Who asks, and where."""

    session: orm.Session
    visible: Visibility
    settings: Settings


@dataclass(frozen=True)
class Named:
    """A policy, its managed root, and the scan that answers."""

    root: str
    name: str
    tier: TierSettings
    policy: PolicySettings
    scan: Row


def named(reader: Reader, root: str, name: str) -> Named:
    """A policy as it is configured.

    Raises:
        NotFoundError: there is none of this name, or the root is in no current scan, or hidden.
    """
    tier = reader.settings.tier.get(root)
    if tier is None or name not in tier.policy:
        raise NotFoundError(f"there is no policy {name!r} of a managed root {root!r}")
    top = queries.directory(reader.session, reader.visible, os.fsencode(tier.root))
    scan = next(row for row in queries.scans(reader.session) if row["id"] == top["scan_id"])
    return Named(root, name, tier, tier.policy[name], scan)


def matching(reader: Reader, of: Named) -> Iterator[tuple[Row, State]]:
    """The files that fit, each once, with `project` and `time_s`, and their state.

    Raises:
        NotFoundError: the project is in no current scan, or a directory.
        UnavailableError: the scan's files are gone or damaged.
    """
    rows = _rows(reader, of)
    root = Managed(of.root, os.fsencode(of.tier.root))
    while portion := list(itertools.islice(rows, _PORTION)):
        files = [
            File(root.relative(row["path"]), row["ino"], row["size_bytes"], row["mtime_s"])
            for row in portion
        ]
        found = scanned.states(reader.session, root.name, files, of.scan["started_at"])
        yield from zip(portion, found, strict=True)


def _rows(reader: Reader, of: Named) -> Iterator[Row]:
    policy = of.policy
    question = Question(
        older_than_s=int(policy.older_than_s) or None,
        basis=policy.basis,
        larger_than_bytes=policy.larger_than_bytes or None,
        kinds=frozenset("f"),
    )
    columns = tuple(dict.fromkeys((*_COLUMNS, f"{policy.basis}_s")))
    linked = set()
    for project, place in _places(reader, of):
        for batch in find.search([place], question, columns):
            for row in batch.to_pylist():
                if row["nlink"] > 1:
                    if row["ino"] in linked:
                        continue
                    linked.add(row["ino"])
                yield row | {"project": project, "time_s": row[f"{policy.basis}_s"]}


def _places(reader: Reader, of: Named) -> Iterator[tuple[str, Place]]:
    """Where to look, a project at a time."""
    base = os.fsencode(of.tier.root)
    tops = [os.path.join(base, os.fsencode(path)) for path in of.policy.paths] or [base]
    filesystem = of.scan["filesystem"]
    store_dir = reader.settings.scan_store_dir
    wanted = Selection(filesystem, of.policy.project)
    for row in queries.projects(reader.session, reader.visible, wanted):
        selection = Selection(filesystem, row["project"])
        for top in tops:
            start = _start(row["path"], top)
            if start is not None:
                found = places.of(reader.session, reader.visible, store_dir, selection, start)
                yield from ((row["project"], place) for place in found)


def _start(project: bytes | None, top: bytes) -> bytes | None:
    """Where a project's files below `top` begin; None where there are none."""
    if project is None or Managed("", project).holds(top):
        return top
    return project if Managed("", top).holds(project) else None
