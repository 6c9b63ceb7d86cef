"""The journal: what is about to be done to files, for whoever comes after a crash.

A row is a step of work on all files of a batch; see `models.TierOperation`.
"""

from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy import orm

from tiering import arrays
from tiering.models import JOURNAL_LOCK

_LOCK = "SELECT pg_advisory_xact_lock(:lock, hashtext(:root))"

_BUSY = """
SELECT asked.id
FROM tier_operation, unnest(tier_operation.files) AS held(id)
JOIN unnest(cast(:files AS bigint[])) AS asked(id) ON asked.id = held.id
WHERE tier_operation.root = :root AND tier_operation.finished_at IS NULL
"""

_BEGIN = """
INSERT INTO tier_operation (root, action, step, files, marks)
VALUES (:root, :action, :step, cast(:files AS bigint[]), cast(:marks AS bytea[]))
RETURNING id
"""


def begin(
    session: orm.Session, root: str, action: str, step: str, marks: Mapping[int, bytes]
) -> tuple[int, Collection[int]]:
    """Write down what is about to be done to files; the number of the operation and its files.

    `marks` by file. A file that is missing from the answer has an unfinished operation: something
    is being done to it, or was when a process died. Without any file there is no operation: 0.
    """
    # So that two who begin at once see each other.
    session.execute(sa.text(_LOCK), {"lock": JOURNAL_LOCK, "root": root})
    busy = set(session.scalars(sa.text(_BUSY), {"root": root, "files": arrays.numbers(marks)}))
    begun = {file: mark for file, mark in marks.items() if file not in busy} if busy else marks
    if not begun:
        return 0, ()
    row = {
        "root": root,
        "action": action,
        "step": step,
        "files": arrays.numbers(begun),
        "marks": arrays.strings(begun.values()),
    }
    return session.execute(sa.text(_BEGIN), row).scalar_one(), begun.keys()


def advance(session: orm.Session, operation: int, step: str) -> None:
    """Write down that the next step of an operation begins."""
    session.execute(
        sa.text("UPDATE tier_operation SET step = :step WHERE id = :id"),
        {"step": step, "id": operation},
    )


_KEEP = """
UPDATE tier_operation
SET files = cast(:files AS bigint[]), marks = cast(:marks AS bytea[]) WHERE id = :id
"""

_END = "UPDATE tier_operation SET step = :step, finished_at = now() WHERE id = :id"


def end(session: orm.Session, operation: int, step: str, left: Mapping[int, bytes]) -> None:
    """An operation is `done` or `undone` but for the files, with their marks, that are left."""
    if left:
        row = {
            "id": operation,
            "files": arrays.numbers(left),
            "marks": arrays.strings(left.values()),
        }
        session.execute(sa.text(_KEEP), row)
    else:
        session.execute(sa.text(_END), {"id": operation, "step": step})
