"""The biggest directories, with or without those that other ones of them lie in."""

from sqlalchemy import orm

from scanners import queries
from scanners.queries import Row, Selection
from scanners.visibility import Visibility

# A deep and narrow tree has many parents a leaf; beyond this, fewer directories are found.
MOST_CANDIDATES = 3000


def directories(
    session: orm.Session,
    visible: Visibility,
    selection: Selection,
    number: int,
    *,
    parents: bool = True,
) -> list[Row]:
    """The biggest directories, as `queries.top_directories`; without `parents`, none has another.

    Raises:
        NotFoundError: nothing was scanned, or project or account are unknown.
    """
    if parents:
        return queries.top_directories(session, visible, selection, number)
    asked = number
    while True:
        asked = min(4 * asked, MOST_CANDIDATES)
        rows = queries.top_directories(session, visible, selection, asked)
        found = innermost(rows, number)
        if len(found) == number or len(rows) < asked or asked == MOST_CANDIDATES:
            return found


def innermost(rows: list[Row], number: int) -> list[Row]:
    """The first of `rows`, biggest first, of which `number` lie in no other of them.

    Each row that is taken pushes out those around it, which are bigger and came before.
    """
    left: dict[bytes, Row] = {}
    for row in rows:
        if len(left) == number:
            break
        path: bytes = row["path"]
        while (path := path.rpartition(b"/")[0]) != b"":
            left.pop(path, None)
        left[row["path"]] = row
    return list(left.values())
