"""The file browser: what it lists, in which order, how it searches, and what it hides."""

import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from dashboard import browse_links, choices
from datamgr import catalog
from datamgr.db import Database
from tests.integration.pages.conftest import ADA, MIB, NAMES, STRANGER, As, write
from tests.pages import links_of, rows_of, text_of


def at(path: Path | bytes, query: str = "") -> str:
    return browse_links.to(os.fsencode(path)) + query


def listed(client: httpx.Client, url: str) -> list[str]:
    """The last names of what the page's file has, in its order."""
    answer = client.get(url.replace("/browse?", "/browse.csv?"))
    assert answer.status_code == 200
    return [row["path"].rpartition("/")[2] for row in rows_of(answer.text)]


def test_directories_come_first_with_all_that_is_in_them(
    client: httpx.Client, scanned: Path
) -> None:
    page = text_of(client.get(at(scanned)).text)
    assert "2 directories and 0 files here" in page
    assert "cosmo/ 4.0 MiB 4" in page
    page = text_of(client.get(at(scanned / "cosmo/runs")).text)
    assert "snap_001.hdf5 3.0 MiB 2.2 years root root -rw-r--r--" in page
    assert "0 directories and 2 files here" in page


def test_the_order_is_as_chosen(
    client: httpx.Client, tree: Path, rescan: Callable[[], int]
) -> None:
    """d is a directory of 1 MiB; a is the biggest file, b the oldest, c has another owner."""
    top = os.fsencode(tree) + b"/cosmo/mixed"
    write(top + b"/d/file", MIB)
    write(top + b"/a", 3 * MIB, age_d=1)
    write(top + b"/b", 1 * MIB, age_d=900)
    write(top + b"/c", 2 * MIB, age_d=2)
    os.chown(top + b"/a", 60_001, 0)
    rescan()
    assert listed(client, at(top)) == ["d", "a", "c", "b"]
    assert listed(client, at(top, "&sort=name")) == ["d", "a", "b", "c"]
    assert listed(client, at(top, "&sort=age")) == ["d", "b", "c", "a"]
    assert listed(client, at(top, "&sort=owner")) == ["d", "b", "c", "a"]


def test_pages_part_the_list_without_gap_or_double(
    client: httpx.Client, tree: Path, rescan: Callable[[], int]
) -> None:
    """130 directories and 120 files: 250 rows on 3 pages, the second one with both."""
    top = tree / "cosmo/many"
    for number in range(130):
        (top / f"dir{number:03}").mkdir(parents=True)
    for number in range(120):
        (top / f"file{number:03}").touch()
    rescan()
    seen: list[str] = []
    for number in (1, 2, 3):
        page = client.get(at(top, f"&sort=name&number={number}")).text
        assert f"Page {number} of 3" in text_of(page)
        seen += [
            line.split("</bdi>")[0].split("<bdi>")[-1] for line in page.split('scope="row">')[1:]
        ]
    wanted = [f"dir{n:03}" for n in range(130)] + [f"file{n:03}" for n in range(120)]
    assert [name.rstrip("/") for name in seen] == wanted
    assert "There is no such page." in client.get(at(top, "&number=4")).text


def test_a_search_goes_below_the_directory_only(client: httpx.Client, scanned: Path) -> None:
    assert listed(client, at(scanned, "&name=run")) == ["run1.h5", "runs"]
    assert listed(client, at(scanned / "cosmo", "&name=*.h5")) == []
    assert listed(client, at(scanned, "&larger=2M")) == ["snap_001.hdf5"]
    assert listed(client, at(scanned, "&older=1y")) == ["snap_001.hdf5"]
    assert listed(client, at(scanned, "&owner=60001")) == []
    page = client.get(at(scanned, "&name=nosuch"))
    assert "Nothing below this directory is like that." in page.text
    for wrong in ("larger=much", "older=long", "owner=nosuch"):
        assert client.get(at(scanned, "&" + wrong)).status_code in (404, 422)


def test_hidden_directories_are_not_there(as_: As, tree: Path, rescan: Callable[[], int]) -> None:
    """ada sees cosmo, but not what only root may list in it."""
    (tree / "cosmo").chmod(0o755)
    secret = tree / "cosmo/secret"
    write(os.fsencode(secret) + b"/hidden-name", MIB)
    secret.chmod(0o700)
    rescan()
    ada = as_(ADA)
    page = ada.get(at(tree / "cosmo")).text
    assert "runs" in page
    assert "secret" not in page
    assert ada.get(at(secret)).status_code == 404
    assert ada.get(at(tree / "lux")).status_code == 404
    assert ada.get(at(tree)).status_code == 404
    assert listed(ada, at(tree / "cosmo", "&name=hidden")) == []
    assert as_(STRANGER).get(at(tree / "cosmo")).status_code == 404
    # The way up leads nowhere that may not be seen.
    assert not [u for u in links_of(page) if u == at(tree)]


def test_hostile_names_are_text_and_their_links_work(
    client: httpx.Client, tree: Path, rescan: Callable[[], int]
) -> None:
    top = os.fsencode(tree) + b"/cosmo/odd"
    for name in NAMES:
        write(top + b"/" + name + b"/" + name, 4096)
    rescan()
    page = client.get(at(top)).text
    assert "<img" not in page.replace('<img src="/static', "")
    assert "\u202e" not in page
    links = [url for url in links_of(page) if url.startswith("/browse?at=")]
    opened = {choices.decode_path(url.split("=", 1)[1]) for url in links if "&" not in url}
    assert {top + b"/" + name for name in NAMES} <= opened
    for name in NAMES:
        inner = client.get(at(top + b"/" + name))
        assert inner.status_code == 200
        assert "1 file here" in text_of(inner.text)
        rows = rows_of(client.get(at(top + b"/" + name).replace("/browse?", "/browse.csv?")).text)
        path = top + b"/" + name + b"/" + name
        exact = rows[0]["path_b64"]
        assert (base64.b64decode(exact) if exact else rows[0]["path"].encode()) == path


def test_odd_addresses_are_refused_in_a_sentence(client: httpx.Client, scanned: Path) -> None:
    for query, status in [
        ("", 422),
        ("?at=%25%25", 422),
        ("?at=" + choices.encode_path(b"relative"), 422),
        ("?at=" + choices.encode_path(b"/nosuch"), 404),
        ("?at=" + choices.encode_path(os.fsencode(scanned) + b"/cosmo/../../etc"), 404),
        ("?at=" + choices.encode_path(b"/a\0b"), 422),
        ("?at=" + choices.encode_path(os.fsencode(scanned)) + "&number=0", 422),
    ]:
        answer = client.get("/browse" + query)
        assert answer.status_code == status, query
        assert "Traceback" not in answer.text


def test_who_may_ask_for_changes_is_led_there(
    client: httpx.Client, as_: As, database: Database, scanned: Path
) -> None:
    """Ada is of the project's group, and no PI until she is registered as one."""
    runs = at(scanned / "cosmo/runs")
    wanted = f"/perms/browse?project=cosmo&at={choices.encode_path(b'runs')}"
    ada = as_(ADA)
    assert wanted in links_of(client.get(runs).text)
    assert wanted not in links_of(ada.get(runs).text)
    with database.transaction() as session:
        cosmo = catalog.project(session, "cosmo")
        cosmo.members.append(catalog.ProjectMember(username="ada", role="pi"))
    assert wanted in links_of(ada.get(runs).text)
    assert f"/perms/browse?project=cosmo&at={choices.encode_path(b'.')}" in links_of(
        ada.get(at(scanned / "cosmo")).text
    )
    assert not [link for link in links_of(client.get(at(scanned)).text) if "/perms/b" in link]


def test_many_search_at_once(client: httpx.Client, scanned: Path) -> None:
    """Searches that waited for each other's threads took all connections, and never ended."""
    with ThreadPoolExecutor(20) as browsers:
        asked = [at(scanned, "&larger=1M&sort=size")] * 60
        answers = list(browsers.map(lambda url: client.get(url, timeout=60), asked))
    assert {answer.status_code for answer in answers} == {200}
    assert all("snap_001.hdf5" in answer.text for answer in answers)
