"""What was ticked in the file browser: handed out as a list, or shown before it is tiered."""

import os
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel

from dashboard import browse_links, choices, downloads, tiers
from datamgr import display
from datamgr.api.deps import Account, Page, ReadSession
from datamgr.config import Settings
from datamgr.errors import InvalidError
from scanners import chosen, queries
from scanners.queries import Row
from scanners.routes import Visible
from tiering import scanned, states
from tiering.below import Amount
from tiering.scanned import Managed

router = APIRouter(include_in_schema=False)

List = Literal["text", "null", "csv"]
Tiering = Literal["put", "punch", "stage", "pin", "unpin"]
LISTS = ("text", "null", "csv")
SHOWN = 20


class Ticked(BaseModel):
    """The form of a list. `names` are base64url of paths below the directory `at`, itself so."""

    do: List | Tiering
    at: Annotated[str, Form(max_length=50_000)]
    filesystem: Annotated[str, Form(max_length=1100, pattern=r"^[^\x00]*$")] = ""
    names: list[str] = []

    @property
    def top(self) -> bytes:
        """The directory."""
        return choices.decode_path(self.at)

    def paths(self) -> list[bytes]:
        """What is ticked, as absolute paths.

        Raises:
            InvalidError: nothing is, or a name leads elsewhere.
        """
        if not self.names:
            raise InvalidError("nothing is selected: go back and tick what you mean")
        top = self.top.rstrip(b"/")
        below = [display.from_address(name) for name in self.names]
        for path in below:
            if b"\0" in path or not set(path.split(b"/")).isdisjoint((b"", b".", b"..")):
                raise InvalidError("what is selected is no path below this directory")
        return [top + b"/" + path for path in below]


@router.post("/browse/selection", response_model=None)
def selection(
    request: Request,
    session: ReadSession,
    visible: Visible,
    caller: Account,
    page: Page,
    ticked: Annotated[Ticked, Form()],
) -> Response:
    """The list as a file, or what tiering would do with it."""
    settings: Settings = request.app.state.settings
    top = queries.directory(session, visible, ticked.top, ticked.filesystem or None)
    rows = chosen.rows(session, visible, settings.scan_store_dir, top["scan_id"], ticked.paths())
    if ticked.do == "csv":
        return downloads.csv("selection", downloads.ENTRIES, rows)
    if ticked.do in LISTS:
        return _list(ticked.do == "null", [row["path"] for row in rows])
    scan = next(row for row in queries.scans(session) if row["id"] == top["scan_id"])
    root = _root_of_all(settings, rows)
    tiers.add_states(session, settings, rows, scan["started_at"])
    tiers.add_amounts(session, settings, rows)
    values = _totals(rows) | {
        "action": ticked.do,
        "root": root,
        "places": [display.to_address(root.relative(row["path"])) for row in rows],
        "shown": rows[:SHOWN],
        "letters": tiers.LETTERS,
        "runs": states.is_worked_on(session, root.name),
        "free_bytes": _free_bytes(root),
        "scan": scan,
        "back": browse_links.to(ticked.top),
        "folder": ticked.top,
        "account": caller.username,
    }
    return page("tier_confirm.html", values)


def _list(null: bool, paths: Sequence[bytes]) -> Response:
    """Paths for `xargs -0` and `ghi -0 -f -`, or one a line.

    Raises:
        InvalidError: a path has a line break in it, which a list of lines cannot say.
    """
    if not null and any(b"\n" in path for path in paths):
        raise InvalidError("a name in this selection has a line break in it: take the NUL list")
    end = b"\0" if null else b"\n"
    name = "selection.nul" if null else "selection.txt"
    return Response(
        b"".join(path + end for path in paths),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _root_of_all(settings: Settings, rows: Sequence[Row]) -> Managed:
    """The one managed root that everything lies in.

    Raises:
        InvalidError: something lies in none, or in another one.
    """
    roots = {scanned.root_of(settings.tier, row["path"]): row["path"] for row in rows}
    if None in roots:
        raise InvalidError(f"{display.printable(roots[None])} is in no managed directory")
    if len(roots) > 1:
        raise InvalidError("the selection is of several managed directories; take one at a time")
    (root,) = (root for root in roots if root is not None)
    return root


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    """How much it is and in which states; of directories all that is in them."""
    tops = {row["path"] for row in rows if row["kind"] == "d"}
    # What lies in a directory that was ticked, too, is counted there.
    rows = [row for row in rows if not _is_in(row["path"], tops)]
    folders = [row for row in rows if row["kind"] == "d"]
    files = [row for row in rows if row["kind"] == "f"]
    by_state = {letter: {"files": 0, "bytes": 0} for letter in tiers.LETTERS}
    amounts = [(row["tier"]["state"].letter, Amount(1, row["size_bytes"])) for row in files]
    for letter, amount in amounts + [of for row in folders for of in row["below"].items()]:
        by_state[letter]["files"] += amount.files
        by_state[letter]["bytes"] += amount.bytes
    return {
        "files": len(rows) - len(folders) + sum(row["files"] for row in folders),
        "folders": len(folders),
        "size_bytes": sum(row["size_bytes"] for row in rows),
        "alloc_bytes": sum(row["alloc_bytes"] for row in rows),
        "by_state": {letter: of for letter, of in by_state.items() if of["files"]},
        "pinned": sum(row["tier"]["state"].pinned for row in files),
        "changed": sum(row["tier"]["state"].changed for row in files),
    }


def _is_in(path: bytes, tops: Collection[bytes]) -> bool:
    while path := path.rpartition(b"/")[0]:
        if path in tops:
            return True
    return False


def _free_bytes(root: Managed) -> int | None:
    try:
        disk = os.statvfs(root.top)
    except OSError:  # this account may not look at it
        return None
    return disk.f_bavail * disk.f_frsize
