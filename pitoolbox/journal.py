"""What requests changed, written before it is changed: batches of rows, and entries left alone.

A batch is `written` before an executor applies it and `applied` afterwards. What a dead worker
left as `written` may or may not have been applied; `run` finds out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import db
from pitoolbox.executor import Issue, Row, Rows

WRITTEN, APPLIED = "written", "applied"

_COLUMNS = (
    *("task_id", "batch", "number", "path", "kind", "device", "inode"),
    *("before_uid", "before_gid", "before_mode", "before_acl"),
    *("after_uid", "after_gid", "after_mode", "after_acl"),
)


@dataclass(frozen=True)
class Unapplied:
    """A row of a batch that could not be applied: `touched` when a part of it was."""

    number: int
    kind: str
    reason: str
    touched: bool


def next_batch(session: orm.Session, task_id: int) -> int:
    """The first number that no batch of the task has."""
    newest = sa.text("SELECT coalesce(max(batch), 0) + 1 FROM perm_batch WHERE task_id = :id")
    number: int = session.scalar(newest, {"id": task_id})
    return number


def write(session: orm.Session, task_id: int, batch: int, rows: Rows) -> None:
    """Write a batch down before it is applied; the caller commits."""
    session.execute(
        sa.text("INSERT INTO perm_batch (task_id, batch, state) VALUES (:id, :batch, 'written')"),
        {"id": task_id, "batch": batch},
    )
    lines = (f"{task_id},{batch},{number},\\x{line}\n" for number, line in enumerate(rows.lines))
    db.copy_csv(session, "perm_change", _COLUMNS, ["".join(lines).encode()])


def mark_applied(
    session: orm.Session, task_id: int, batch: int, rows: Sequence[Row], left: Sequence[Unapplied]
) -> None:
    """Note that a batch is done, but for the rows that could not be applied."""
    session.execute(
        sa.text(
            "UPDATE perm_batch SET state = 'applied' WHERE task_id = :id AND batch = :batch"
            " AND state = 'written'"
        ),
        {"id": task_id, "batch": batch},
    )
    note_issues(session, task_id, [Issue(rows[u.number].path, u.kind, u.reason) for u in left])
    undone = [u.number for u in left if not u.touched]
    if undone:
        session.execute(
            sa.text(
                "INSERT INTO perm_unapplied (task_id, batch, number)"
                " SELECT :id, :batch, unnest(cast(:numbers AS bigint[])) ON CONFLICT DO NOTHING"
            ),
            {"id": task_id, "batch": batch, "numbers": undone},
        )


def note_issues(session: orm.Session, task_id: int, issues: Sequence[Issue]) -> None:
    """Remember entries that were left alone, each once: a request that is resumed meets them
    again."""
    if not issues:
        return
    session.execute(
        sa.text(
            "INSERT INTO perm_issue (task_id, path_hash, path, kind, reason)"
            " SELECT :id, * FROM unnest(cast(:hashes AS bytea[]), cast(:paths AS bytea[]),"
            " cast(:kinds AS text[]), cast(:reasons AS text[])) ON CONFLICT DO NOTHING"
        ),
        {
            "id": task_id,
            "hashes": [hashlib.sha256(issue.path).digest() for issue in issues],
            "paths": [issue.path for issue in issues],
            "kinds": [issue.kind for issue in issues],
            "reasons": [issue.reason for issue in issues],
        },
    )


def written_batches(session: orm.Session, task_id: int) -> list[tuple[int, list[Row]]]:
    """The batches of which it is not known whether they were applied, with their rows."""
    batches = session.scalars(
        sa.text(
            "SELECT batch FROM perm_batch WHERE task_id = :id AND state = 'written' ORDER BY batch"
        ),
        {"id": task_id},
    )
    return [(batch, _rows(session, task_id, batch)) for batch in batches]


def applied_backwards(database: db.Database, task_id: int) -> Iterator[list[Row]]:
    """What a request changed, the latest first, a batch at a time."""
    with database.transaction(read_only=True) as session:
        batch = next_batch(session, task_id) - 1
    while batch > 0:
        with database.transaction(read_only=True) as session:
            rows = _rows(session, task_id, batch)
        yield rows[::-1]
        batch -= 1


def failed_paths(session: orm.Session, task_id: int) -> list[bytes]:
    """The entries that a request could not change, though the policy allowed it."""
    found = session.scalars(
        sa.text(
            "SELECT path FROM perm_issue WHERE task_id = :id AND kind = 'failed' ORDER BY path"
        ),
        {"id": task_id},
    )
    return [bytes(path) for path in found]


@dataclass(frozen=True)
class Totals:
    """What the journal holds of a request."""

    changed: int
    changes: dict[str, int]
    kinds: dict[str, int]
    issues: dict[str, int]
    reasons: dict[str, int]


def totals(session: orm.Session, task_id: int) -> Totals:
    """Count what a request changed and what it left alone."""
    counted = session.execute(sa.text(_COUNT_CHANGES), {"id": task_id}).all()
    issues = session.execute(
        sa.text("SELECT kind, reason, count(*) FROM perm_issue WHERE task_id = :id GROUP BY 1, 2"),
        {"id": task_id},
    ).all()
    by_kind: dict[str, int] = {"skipped": 0, "failed": 0}
    for kind, _, number in issues:
        by_kind[kind] += number
    parts = {
        part: sum(getattr(row, part) for row in counted)
        for part in ("owner", "group", "mode", "acl")
    }
    return Totals(
        changed=sum(row.entries for row in counted),
        changes={part: number for part, number in parts.items() if number},
        kinds={row.kind: row.entries for row in counted},
        issues=by_kind,
        reasons={reason: number for _, reason, number in issues},
    )


# Entries that changed and which part of them did; a touched one counts, an unapplied one not.
_COUNT_CHANGES = """
SELECT c.kind, count(*) AS entries,
    count(*) FILTER (WHERE before_uid <> after_uid) AS owner,
    count(*) FILTER (WHERE before_gid <> after_gid) AS "group",
    count(*) FILTER (WHERE before_mode <> after_mode) AS mode,
    count(*) FILTER (WHERE before_acl IS DISTINCT FROM after_acl) AS acl
FROM perm_change c
WHERE task_id = :id AND NOT EXISTS (SELECT 1 FROM perm_unapplied u
    WHERE u.task_id = c.task_id AND u.batch = c.batch AND u.number = c.number)
GROUP BY c.kind
"""

_BATCH = """
SELECT path, kind, device, inode, before_uid, before_gid, before_mode, before_acl,
    after_uid, after_gid, after_mode, after_acl
FROM perm_change c
WHERE task_id = :id AND batch = :batch AND NOT EXISTS (SELECT 1 FROM perm_unapplied u
    WHERE u.task_id = c.task_id AND u.batch = c.batch AND u.number = c.number)
ORDER BY number
"""


def _rows(session: orm.Session, task_id: int, batch: int) -> list[Row]:
    found = session.execute(sa.text(_BATCH), {"id": task_id, "batch": batch})
    return [
        Row(bytes(path), kind, int(device), int(inode), tuple(states[:4]), tuple(states[4:]))
        for path, kind, device, inode, *states in found
    ]
