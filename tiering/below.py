"""How much of what lies below directories is in which state, for pages that list directories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm

from tiering import models, requests


@dataclass(frozen=True)
class Amount:
    """Files and the bytes of their content."""

    files: int = 0
    bytes: int = 0


def archived(
    session: orm.Session, root: str, directories: Sequence[bytes]
) -> list[Mapping[str, Amount]]:
    """What tiering has at B and at H below each directory, in the order given, by one query.

    `directories` are relative to the root, `.` is all of it. A file that changed since it was put
    counts as B, for only the disk tells. What is read grows with the number of directories below,
    not with that of files.
    """
    ranges = [_range(path) for path in directories]
    asked = {
        "root": root,
        "firsts": [first for first, _ in ranges],
        "ends": [end for _, end in ranges],
    }
    known = [{models.BOTH: Amount(), models.ARCHIVE: Amount()} for _ in ranges]
    for row in session.execute(_AMOUNTS, asked):
        known[row.number - 1][row.state] = Amount(int(row.files), int(row.bytes))
    return list(known)


def compact(session: orm.Session, root: str) -> int:
    """Let one row stand for the changes of each directory; the number of rows that are gone."""
    return session.scalar(_COMPACT, {"root": root}) or 0


def _range(path: bytes) -> tuple[bytes, bytes]:
    """A directory and those in it are from the first to before the second."""
    return (b"", _LAST) if path == b"." else (path + b"/", path + b"0")


# After every path.
_LAST = b"\xff" * (requests.MAX_PATH_BYTES + 1)

_AMOUNTS = sa.text(
    """
    SELECT given.number, a.state, sum(a.files) AS files, sum(a.bytes) AS bytes
    FROM unnest(cast(:firsts AS bytea[]), cast(:ends AS bytea[]))
        WITH ORDINALITY AS given(first, "end", number)
    JOIN tier_amount a
        ON a.root = :root AND a.folder >= given.first AND a.folder < given."end"
    GROUP BY given.number, a.state
    """
)

# What is added meanwhile is not seen here and stays.
_COMPACT = sa.text(
    """
    WITH several AS (
        SELECT folder, state FROM tier_amount WHERE root = :root
        GROUP BY folder, state HAVING count(*) > 1
    ), gone AS (
        DELETE FROM tier_amount a USING several s
        WHERE a.root = :root AND a.folder = s.folder AND a.state = s.state
        RETURNING a.*
    ), kept AS (
        INSERT INTO tier_amount (root, folder, state, files, bytes)
        SELECT root, folder, state, sum(files), sum(bytes) FROM gone
        GROUP BY root, folder, state HAVING sum(files) <> 0 OR sum(bytes) <> 0
    )
    SELECT count(*) FROM gone
    """
)
