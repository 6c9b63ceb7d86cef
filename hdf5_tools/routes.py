"""Searches in HDF5 metadata over HTTP: the same questions as `datamgr hdf5 search`."""

import os
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from datamgr.api.deps import Account
from datamgr.config import Settings
from datamgr.display import encode_row
from hdf5_tools.published import Published

router = APIRouter(prefix="/api/v1/hdf5", tags=["hdf5"])

IndexName = Annotated[str, Query(max_length=1100, description="The name of an index.")]
Text = Annotated[
    str, Query(max_length=4000, description='Such as `exposure > 500 ms and sample = "MgFe*"`.')
]
Show = Annotated[
    list[str], Query(max_length=100, description="Names of attributes whose values are wanted.")
]
Number = Annotated[int, Query(ge=1, le=10_000, description="How many rows.")]
Skip = Annotated[int, Query(ge=0, le=1_000_000_000, description="After how many others.")]


class IndexRow(BaseModel):
    """An index that the caller may search."""

    name: str


class IndexesAnswer(BaseModel):
    """All of them."""

    schema_: str = Field(alias="schema")
    rows: list[IndexRow]


class HitRow(BaseModel):
    """An object, or the root group of a file; `attributes` has the values of those asked for."""

    file: str
    file_b64: str | None = None
    path: str
    path_b64: str | None = None
    kind: str
    dtype: str
    shape: list[int] | None
    attributes: dict[str, list[Any] | None]


class SearchAnswer(BaseModel):
    """Some of the `matches`, in the order of the index."""

    schema_: str = Field(alias="schema")
    index: str
    query: str
    matches: int
    rows: list[HitRow]


class NameRow(BaseModel):
    """An attribute's name; `texts`: how many different ones it has."""

    name: str
    attributes: int
    smallest: float | str | None
    largest: float | str | None
    texts: int
    example: str | None


class AttributesAnswer(BaseModel):
    """All names of attributes, with the totals of the index."""

    schema_: str = Field(alias="schema")
    index: str
    files: int
    failed: int
    objects: int
    rows: list[NameRow]


def published(request: Request) -> Published:
    """The indexes of the configuration, kept open for as long as the application runs."""
    state = request.app.state
    if not hasattr(state, "hdf5_published"):
        settings: Settings = state.settings
        state.hdf5_published = Published(settings.hdf5.index)
    found: Published = state.hdf5_published
    return found


Indexes = Annotated[Published, Depends(published)]


@router.get("/indexes", response_model=IndexesAnswer)
def indexes(of: Indexes, caller: Account) -> dict[str, Any]:
    """The indexes that the caller may search."""
    return {"schema": "hdf5.indexes", "rows": [{"name": name} for name in of.names(caller)]}


@router.get("/search", response_model=SearchAnswer, response_model_exclude_unset=True)
def search(  # noqa: PLR0913, PLR0917  one for each parameter of the address
    of: Indexes,
    caller: Account,
    index: IndexName,
    query: Text,
    by_file: bool = False,
    show: Show = [],  # noqa: B006  as FastAPI wants it; never changed
    number: Number = 100,
    skip: Skip = 0,
) -> dict[str, Any]:
    """Objects whose attributes fulfil a query, or files whose objects fulfil it together."""
    opened = of.index(caller, index)
    from hdf5_tools.index import rows

    hits = opened.search(query, by_file=by_file)
    names = tuple(os.fsencode(name) for name in show)
    found = [encode_row(rows.of_hit(hit)) for hit in hits.rows(names, number, skip)]
    head = {"index": index, "query": query, "matches": len(hits)}
    return {"schema": "hdf5.search", **head, "rows": found}


@router.get("/attributes", response_model=AttributesAnswer)
def attributes(of: Indexes, caller: Account, index: IndexName) -> dict[str, Any]:
    """The names of attributes in an index, with what is known of each."""
    opened = of.index(caller, index)
    from hdf5_tools.index import rows

    found = [rows.of_name(summary) for summary in opened.names()]
    return {"schema": "hdf5.attributes", "index": index, **opened.totals(), "rows": found}
