"""The page of a project: its charts, the tables behind them and their files."""

import itertools
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from datamgr.db import Database
from tests.integration.pages.conftest import ADA, MIB, NAMES, STRANGER, As, write
from tests.pages import links_of, rows_of, text_of

COSMO = "/usage?filesystem=cfs&project=cosmo"
PARTS = ("directories", "files", "ages", "user", "group", "trend", "growth")


def test_parents_of_the_biggest_directories_are_shown_when_asked(
    client: httpx.Client, tree: Path, rescan: Callable[[], int]
) -> None:
    """/cosmo/runs has all; deep/deeper and other are in it."""
    base = os.fsencode(tree)
    write(base + b"/cosmo/runs/deep/deeper/file", 2 * MIB)
    write(base + b"/cosmo/runs/other/file", 1 * MIB)
    rescan()

    def listed(query: str) -> list[str]:
        rows = rows_of(client.get(f"/usage/directories.csv?project=cosmo{query}").text)
        return [row["path"].removeprefix(str(tree)) for row in rows]

    assert listed("") == ["/cosmo/runs/deep/deeper", "/cosmo/runs/other"]
    assert listed("&parents=true") == [
        "/cosmo/runs", "/cosmo/runs/deep", "/cosmo/runs/deep/deeper", "/cosmo/runs/other",
    ]  # fmt: skip
    assert "Show parents" in client.get(COSMO).text
    assert "Hide parents" in client.get(COSMO + "&parents=true").text


def test_the_trend_has_a_quota_line_a_forecast_and_a_table(
    client: httpx.Client, database: Database, scanned: Path, rescan: Callable[[], int]
) -> None:
    """Five scans a day apart; lux grows by 1 MiB each."""
    assert "A line needs two scans" in client.get(COSMO).text
    for number in range(4):
        with database.transaction() as session:
            session.execute(
                sa.text("UPDATE project_history SET scanned_at = scanned_at - :day"),
                {"day": timedelta(days=1)},
            )
        write(os.fsencode(scanned) + b"/cosmo/runs/new%d" % number, MIB)
        rescan()
    page = client.get(COSMO).text
    assert 'class="quota"' in page
    assert 'class="used"' in page
    assert 'class="ahead"' in page
    assert "Full already since" in text_of(page)
    assert "The 5 scans as a table" in text_of(page)
    rows = rows_of(client.get("/usage/trend.csv?filesystem=cfs&project=cosmo").text)
    sizes = [int(row["alloc_bytes"]) for row in rows]
    assert [b - a for a, b in itertools.pairwise(sizes)] == [MIB] * 4
    assert client.get(COSMO + "&measure=inodes").status_code == 200


def test_the_map_leads_into_directories(client: httpx.Client, scanned: Path) -> None:
    page = client.get(COSMO).text
    inner = next(url for url in links_of(page) if "at=" in url and url.startswith("/usage"))
    below = client.get(inner.split("#")[0]).text
    assert "files here, and smaller directories" in below
    assert "One level up" in below


def test_files_can_be_those_of_one_account(client: httpx.Client, scanned: Path) -> None:
    assert rows_of(client.get("/usage/files.csv?project=cosmo&user=0").text)
    assert rows_of(client.get("/usage/files.csv?project=cosmo&user=60001").text) == []
    assert client.get(COSMO + "&user=60001").status_code == 200
    assert "mine (root)" in text_of(client.get(COSMO).text)


def test_growth_can_start_at_a_date(
    client: httpx.Client, scanned: Path, rescan: Callable[[], int]
) -> None:
    write(os.fsencode(scanned) + b"/cosmo/runs/new", 2 * MIB)
    rescan()
    page = text_of(client.get(COSMO + "&since=2020-01-01&directories=true").text)
    assert "Growth since 2020-01-01" in page
    assert "/cosmo/runs +2.0 MiB" in page
    assert client.get(COSMO + "&since=yesterday").status_code == 422


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_a_file_of_what_one_may_see(as_: As, scanned: Path, part: str) -> None:
    ada, stranger = as_(ADA), as_(STRANGER)
    answer = ada.get(f"/usage/{part}.csv?filesystem=cfs&project=cosmo")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    assert ada.get(f"/usage/{part}.csv?project=lux").status_code == 404
    assert stranger.get(f"/usage/{part}.csv?project=cosmo").status_code == 404


def test_other_projects_are_not_there(as_: As, scanned: Path) -> None:
    ada = as_(ADA)
    assert ada.get(COSMO).status_code == 200
    assert ada.get("/usage?project=lux").status_code == 404
    at = next(u for u in links_of(as_(ADA).get(COSMO).text) if u.startswith("/browse"))
    assert ada.get(at).status_code == 200
    assert as_(STRANGER).get(at).status_code == 404


def test_hostile_names_are_text_in_charts_and_files(
    client: httpx.Client, tree: Path, rescan: Callable[[], int]
) -> None:
    for name in NAMES:
        write(os.fsencode(tree) + b"/cosmo/" + name + b"/" + name, MIB)
    rescan()
    page = client.get(COSMO + "&top=50").text
    assert "<img" not in page.replace('<img src="/static', "")
    assert "\u202e" not in page
    for link in links_of(page):
        if link.startswith(("/usage", "/browse")):
            assert client.get(link.split("#")[0]).status_code == 200, link
    text = client.get("/usage/files.csv?project=cosmo&top=100").text
    assert "\u202e" not in text
    paths = [row["path"] for row in rows_of(text)]
    assert any(path.endswith("two\\nlines\\rand\\ttabs") for path in paths)
    assert len(paths) == 2 + len(NAMES)
