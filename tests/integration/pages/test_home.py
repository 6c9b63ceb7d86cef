"""The first page: which projects it lists, in which order, and what it says of each."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import sqlalchemy as sa

from datamgr.db import Database
from tests.integration.pages.conftest import ADA, MIB, NAMES, STRANGER, As, write
from tests.pages import links_of, rows_of, text_of


def order(page: str) -> list[str]:
    """The projects in the order of the page."""
    return [row.split("</bdi>")[0] for row in page.split('<a class="title"')[1:]]


def names(page: str) -> list[str]:
    return [text.rsplit("<bdi>", 1)[-1] for text in order(page)]


def test_projects_are_sorted_as_chosen(client: httpx.Client, scanned: Path) -> None:
    """cosmo takes 4 MiB in 4 inodes with a quota, lux 1 MiB in 3 without."""
    write(os.fsencode(scanned) + b"/lux/raw/run2.h5", MIB)
    assert names(client.get("/").text)[:2] == ["cosmo", "lux"]
    assert names(client.get("/?sort=name").text) == ["(no project)", "cosmo", "lux"]
    assert names(client.get("/?sort=quota").text)[0] == "cosmo"
    assert names(client.get("/?sort=inodes").text)[0] == "cosmo"


def test_the_filter_looks_at_names_and_paths(client: httpx.Client, scanned: Path) -> None:
    assert names(client.get("/?find=LUX").text) == ["lux"]
    assert names(client.get(f"/?find={scanned}/cos").text) == ["cosmo"]
    nothing = client.get("/?find=<script>")
    assert nothing.status_code == 200
    assert "No project is called, or lies at, anything with “<script>”" in text_of(nothing.text)
    assert "<script>”" not in nothing.text


def test_usage_details_open_for_one_project(client: httpx.Client, scanned: Path) -> None:
    closed = client.get("/").text
    assert "Usage by user" not in closed
    link = next(url for url in links_of(closed) if "details=cfs%2Fcosmo" in url)
    page = client.get(link.split("#")[0]).text
    words = text_of(page)
    assert words.count("Usage by user") == words.count("Usage by group") == 1
    assert "root 4.0 MiB 100.0 % 4" in words
    assert 'aria-expanded="true"' in page
    assert "Hide usage details" in words


def test_growth_is_that_of_about_a_week(
    client: httpx.Client, database: Database, scanned: Path, rescan: Callable[[], int]
) -> None:
    """The first scan is moved back by eight days; 2 MiB were added since, and one was cleaned."""
    with database.transaction() as session:
        back = {"age": timedelta(days=8)}
        session.execute(sa.text("UPDATE project_history SET scanned_at = scanned_at - :age"), back)
    write(os.fsencode(scanned) + b"/lux/raw/run2.h5", 2 * MIB)
    rescan()
    words = text_of(client.get("/?find=lux").text)
    assert "+2.0 MiB in 8 d" in words
    assert names(client.get("/?sort=growth").text)[0] == "lux"
    row = next(r for r in rows_of(client.get("/projects.csv").text) if r["project"] == "lux")
    assert (row["grown_bytes"], row["grown_inodes"]) == (str(2 * MIB), "1")


def test_long_lists_have_pages(
    client: httpx.Client, tree: Path, database: Database, rescan: Callable[[], int]
) -> None:
    """30 directories, and what lies in none of them: 31 rows, of which 25 come first."""
    with database.transaction() as session:
        session.execute(sa.text("DELETE FROM project"))
    for number in range(28):
        (tree / f"project{number:02}").mkdir()
    rescan()
    first = client.get("/?sort=name").text
    assert len(names(first)) == 25
    assert "Page 1 of 2" in text_of(first)
    assert "/?sort=name&number=2" in links_of(first)
    second = client.get("/?sort=name&number=2").text
    assert len(names(second)) == 6
    assert set(names(first)) & set(names(second)) == set()
    assert names(client.get("/?sort=name&number=99").text) == names(second)
    assert len(rows_of(client.get("/projects.csv").text)) == 31
    assert len(first.encode()) < 100_000


def test_everybody_sees_their_own(as_: As, scanned: Path) -> None:
    ada, stranger = as_(ADA), as_(STRANGER)
    assert names(ada.get("/").text) == ["cosmo"]
    assert "cfs/lux" not in ada.get("/?details=cfs%2Flux").text
    assert [row["project"] for row in rows_of(ada.get("/projects.csv").text)] == ["cosmo"]
    nothing = stranger.get("/")
    assert nothing.status_code == 200
    assert "There is no project that you may see." in text_of(nothing.text)
    assert "cosmo" not in nothing.text


def test_hostile_names_are_text_in_page_link_and_csv(
    client: httpx.Client, tree: Path, database: Database, rescan: Callable[[], int]
) -> None:
    with database.transaction() as session:
        session.execute(sa.text("DELETE FROM project"))
    for name in NAMES:
        write(os.fsencode(tree) + b"/" + name + b"/file", 4096)
    rescan()
    page = client.get("/").text
    assert "<img" not in page.replace('<img src="/static', "")
    assert "\u202e" not in page
    assert "\\u202egpj.exe" in page
    for link in [url for url in links_of(page) if url.startswith(("/usage", "/?details"))]:
        assert client.get(link.split("#")[0]).status_code == 200
    cells = [row["project"] for row in rows_of(client.get("/projects.csv").text)]
    assert '\'=HYPERLINK("evil.example";"x")' in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "two\\nlines\\rand\\ttabs" in cells


def test_odd_questions_are_refused_in_a_sentence(client: httpx.Client, scanned: Path) -> None:
    for query in (
        "sort=bogus",
        "number=0",
        "number=9999999999",
        "find=a%00b",
        "find=" + "x" * 9999,
    ):
        answer = client.get("/?" + query)
        assert answer.status_code == 422
        assert "Traceback" not in answer.text
