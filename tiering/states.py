"""The state of files on disk, as `ghi ls` shows it, for whoever can look at them anyway."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from tiering import models


class Seen(NamedTuple):
    """What files look like to whoever asks: the columns of a table, a row a file."""

    inodes: Sequence[int]
    sizes: Sequence[int]
    mtimes_ns: Sequence[int]
    ctimes_ns: Sequence[int]


class States(NamedTuple):
    """Of each file, in the order in which they were asked for.

    `marks`: the letter G, B or H; then, or a blank, `c` for changed since it was put, `p` for
    pinned, `l` for locked, `~` for being worked on. `places`: container and offset, before them
    volume and position where the archive has such, or empty.
    """

    marks: list[str]
    places: list[str]


# Of files that had an inode number one after the other, the newest counts. Renamed or with other
# permissions a file has a later change; its content is the one of before. LATERAL with a limit is
# looked up for each file, where the planner would read whole tables that it knows nothing of yet;
# `+ 0`, or it would follow the primary key to find the newest.
_STATES = sa.text(
    """
    SELECT array_agg(known.container_id ORDER BY number),
        array_agg(known.offset_bytes ORDER BY number),
        array_agg(
            CASE WHEN known.state IS NULL OR known.state = 'G' OR known.mtime_ns IS NULL THEN 'G '
                WHEN known.size_bytes = seen.size_bytes AND known.mtime_ns = seen.mtime_ns
                    AND known.ctime_ns <= seen.ctime_ns THEN known.state || ' '
                WHEN known.state = 'B' THEN 'Gc'
                ELSE 'G ' END
            || CASE WHEN known.pinned_until > now() THEN 'p' ELSE ' ' END
            || CASE WHEN known.locked_by IS NOT NULL THEN 'l' ELSE ' ' END
            || CASE WHEN known.id = ANY(cast(:busy AS bigint[])) THEN '~' ELSE ' ' END
            ORDER BY number
        )
    FROM unnest(
        cast(:inodes AS numeric[]), cast(:sizes AS bigint[]),
        cast(:mtimes_ns AS bigint[]), cast(:ctimes_ns AS bigint[])
    ) WITH ORDINALITY AS seen (inode, size_bytes, mtime_ns, ctime_ns, number)
    LEFT JOIN LATERAL (
        SELECT f.id, f.state, f.pinned_until, f.locked_by,
            v.size_bytes, v.mtime_ns, v.ctime_ns, p.container_id, p.offset_bytes
        FROM tier_file f
        LEFT JOIN tier_version v ON v.id = f.version_id
        LEFT JOIN tier_copy p ON p.version_id = v.id
        WHERE f.filesystem = :filesystem AND f.inode = seen.inode AND f.deleted_at IS NULL
        ORDER BY f.id + 0 DESC LIMIT 1
    ) AS known ON true
    """
)
# Nor for each file, as it would while the tables are small.
_BY_INDEX = sa.text("SELECT set_config(name, 'off', true) FROM unnest(:names) AS name")
_PLANS = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin"]

_KEYS = sa.text(
    """
    SELECT id, coalesce(volume || ':' || array_to_string(position, '+') || ' ', '') || key
    FROM tier_container WHERE id = ANY(:containers)
    """
)
_BUSY = sa.text("SELECT unnest(files) FROM tier_operation WHERE finished_at IS NULL")


def states(session: orm.Session, filesystem: str, seen: Seen) -> States:
    """The states of files.

    Who asks says what a file looks like; one that looks otherwise is taken for a file that is on
    disk alone, so that nothing is told of files that the asker cannot see.
    """
    if not seen.inodes:
        return States([], [])
    busy = list(session.scalars(_BUSY))
    session.execute(_BY_INDEX, {"names": _PLANS})
    # As text and as arrays: rows and numbers would be made of each file twice on the way.
    columns = {name: "{" + ",".join(map(str, one)) + "}" for name, one in seen._asdict().items()}
    asked = {"filesystem": filesystem, "busy": busy, **columns}
    containers, offsets, marks = session.execute(_STATES, asked).one()
    # Few for many files: asked once, and not for each.
    held = session.execute(_KEYS, {"containers": list(set(containers) - {None})})
    keys = {number: key for number, key in held}  # noqa: C416  a result of it has `keys`
    places = [
        f"{keys[container]}:{offset}" if container in keys and mark[0] != models.DISK else ""
        for mark, container, offset in zip(marks, containers, offsets, strict=True)
    ]
    return States(marks, places)


_TOTALS = sa.text(
    """
    SELECT f.state, count(*) AS files, coalesce(sum(v.size_bytes), 0) AS bytes,
        count(*) FILTER (WHERE f.deleted_at IS NOT NULL) AS deleted,
        coalesce(sum(v.size_bytes) FILTER (WHERE f.deleted_at IS NOT NULL), 0) AS deleted_bytes
    FROM tier_file f LEFT JOIN tier_version v ON v.id = f.version_id
    WHERE f.root = :root GROUP BY f.state
    """
)


def totals(session: orm.Session, root: str) -> dict[str, dict[str, int]]:
    """Files and bytes by state, and of removed files under `trash`."""
    found = {letter: {"files": 0, "bytes": 0} for letter in (models.BOTH, models.ARCHIVE)}
    found["trash"] = {"files": 0, "bytes": 0}
    for row in session.execute(_TOTALS, {"root": root}):
        if row.state in found:
            found[row.state]["files"] += row.files - row.deleted
            found[row.state]["bytes"] += int(row.bytes - row.deleted_bytes)
        found["trash"]["files"] += row.deleted
        found["trash"]["bytes"] += int(row.deleted_bytes)
    return found


def is_worked_on(session: orm.Session, root: str) -> bool:
    """Whether some process carries out requests for a root now: it holds the root's lock."""
    asked = {"kind": models.ROOT_LOCK, "root": root}
    return bool(session.scalar(sa.text(_WORKED_ON), asked))


# Source: PostgreSQL, "pg_locks": of two keys of 32 bits classid and objid, and objsubid is 2.
_WORKED_ON = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND datname = current_database() AND granted
        AND classid = :kind AND objsubid = 2
        AND objid::bigint = (hashtext(:root)::bigint & 4294967295)
)
"""


def archive_totals(session: orm.Session, root: str) -> dict[str, int]:
    """Containers and their bytes."""
    number, size = session.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(models.TierContainer.size_bytes), 0)
        ).where(models.TierContainer.root == root)
    ).one()
    return {"containers": number, "bytes": int(size or 0)}
