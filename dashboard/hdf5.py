"""The page that searches HDF5 files by their attributes, in indexes that the reader may search."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from dashboard import choices
from datamgr.api.deps import Account, Page
from datamgr.errors import InvalidError
from hdf5_tools.routes import Indexes

router = APIRouter(include_in_schema=False)

PAGE_ROWS = 50
NAMES = 200
Words = Annotated[str, Query(max_length=4000, pattern=r"^[^\x00]*$")]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class SearchChoice(choices.Choice):
    """What is asked of which index; `show` names attributes, with commas between them."""

    PAGE: ClassVar[str] = "/hdf5"

    index: str = ""
    query: str = ""
    by_file: bool = False
    show: str = ""
    number: int = 1


def _choice(
    index: Words = "",
    query: Words = "",
    by_file: bool = False,
    show: Words = "",
    number: PageNumber = 1,
) -> SearchChoice:
    return SearchChoice(index, query.strip(), by_file, show, number)


Chosen = Annotated[SearchChoice, Depends(_choice)]


@router.get("/hdf5", response_class=HTMLResponse)
def hdf5(of: Indexes, caller: Account, page: Page, asked: Chosen) -> HTMLResponse:
    """A search, or without a query the names of attributes that there are."""
    names = of.names(caller)
    choice = replace(asked, index=asked.index or (names[0] if names else ""))
    values: dict[str, Any] = {"choice": choice, "indexes": names, "error": None, "hits": None}
    if not names:
        return page("hdf5.html", values | {"names": None})
    opened = of.index(caller, choice.index)
    if not choice.query:
        values |= _names(opened, choice)
        return page("hdf5.html", values)
    try:
        hits = opened.search(choice.query, by_file=choice.by_file)
    except InvalidError as error:
        values |= {"error": str(error).removeprefix("query: "), "names": None}
        return page("hdf5.html", values)
    number, last = choices.pages_of(len(hits), PAGE_ROWS, choice.number)
    shown = [name.strip() for name in choice.show.split(",") if name.strip()]
    values |= {
        "names": None,
        "hits": _rows(hits, shown, (number - 1) * PAGE_ROWS),
        "shown": shown,
        "matches": len(hits),
        "last": last,
        "choice": replace(choice, number=number),
    }
    return page("hdf5.html", values)


def _rows(hits: Any, shown: list[str], skip: int) -> list[dict[str, Any]]:
    from hdf5_tools.index import rows

    names = tuple(name.encode("utf-8", "surrogateescape") for name in shown)
    return [
        {
            "file": hit.file,
            "path": hit.path,
            "kind": hit.kind.name.lower(),
            "form": rows.form(hit.form) if hit.kind else "",
            "values": [rows.shown(rows.of_values(hit.attributes[name] or ())) for name in names],
        }
        for hit in hits.rows(names, PAGE_ROWS, skip)
    ]


def _names(opened: Any, choice: SearchChoice) -> dict[str, Any]:
    """The most frequent attributes, each with a search for the objects that have it."""
    from hdf5_tools.index import rows

    summaries = sorted(opened.names(), key=lambda s: (-s.attributes, s.name))
    found = [rows.of_name(summary) for summary in summaries[:NAMES]]
    for row in found:
        # A name with a backquote cannot be asked for.
        ticked = f"has `{row['name']}`"
        for key in ("smallest", "largest"):
            if isinstance(row[key], float):
                row[key] = f"{row[key]:.6g}"
        row["link"] = None if "`" in row["name"] else choice.url(query=ticked, number=1)
    return {"names": found, "different": len(summaries), "totals": opened.totals()}
