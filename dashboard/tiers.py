"""What tiering knows of the files that the browser lists, where it manages them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import orm

from datamgr.config import Settings
from scanners.queries import Row
from tiering import below, scanned
from tiering.below import Amount
from tiering.scanned import Managed, State

LETTERS = {
    "G": "on disk only",
    "B": "on disk and in the archive",
    "H": "in the archive, on disk a stub",
}


def add_states(
    session: orm.Session, settings: Settings, rows: Sequence[Row], scanned_at: datetime
) -> bool:
    """Give each row its `tier`, None for what has none; whether any of them is managed.

    Rows have `path` and `kind`, and regular files `ino`.
    """
    managed: dict[Managed, list[Row]] = {}
    for row in rows:
        row["tier"] = None
        root = scanned.root_of(settings.tier, row["path"])
        if root is not None:
            managed.setdefault(root, [])
            if row["kind"] == "f":
                managed[root].append(row)
    for root, files in managed.items():
        seen = [
            scanned.File(root.relative(row["path"]), row["ino"], row["size_bytes"], row["mtime_s"])
            for row in files
        ]
        found = scanned.states(session, root.name, seen, scanned_at)
        for row, state in zip(files, found, strict=True):
            row["tier"] = {"state": state, "words": words(state)}
    return bool(managed)


def add_amounts(session: orm.Session, settings: Settings, rows: Sequence[Row]) -> None:
    """Give each row its `below`, what lies below a directory by letter, {} for all else.

    What tiering does not know as B or H is G, where a row has the totals of the scan: the one is
    of now, the other of then, so that G is what is left, and never less than nothing. Without
    totals nothing is said of G.
    """
    managed: dict[Managed, list[Row]] = {}
    for row in rows:
        row["below"] = {}
        root = scanned.root_of(settings.tier, row["path"]) if row["kind"] == "d" else None
        if root is not None:
            managed.setdefault(root, []).append(row)
    for root, folders in managed.items():
        paths = [root.relative(row["path"]) for row in folders]
        for row, known in zip(folders, below.archived(session, root.name, paths), strict=True):
            amounts = {"G": _rest(row, list(known.values())), **known}
            row["below"] = {letter: of for letter, of in amounts.items() if of.files}


def _rest(row: Row, known: Sequence[Amount]) -> Amount:
    if "files" not in row:
        return Amount()
    files = row["files"] - sum(amount.files for amount in known)
    size_bytes = row["size_bytes"] - sum(amount.bytes for amount in known)
    return Amount(max(0, files), max(0, size_bytes))


def words(state: State) -> str:
    """A state as it is read out."""
    marks = {
        "changed since it was put": state.changed,
        "pinned": state.pinned,
        "locked": state.locked,
        "being worked on": state.busy,
    }
    return ", ".join([LETTERS[state.letter], *(mark for mark, is_so in marks.items() if is_so)])
