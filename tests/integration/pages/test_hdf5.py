"""Searches in HDF5 metadata by page and API: what is found, and who finds it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import h5py
import httpx
import numpy as np
import pytest

from datamgr.config import Settings
from datamgr.config_hdf5 import Hdf5IndexSettings, Hdf5Settings
from datamgr.db import Database
from datamgr.identity import Caller
from hdf5_tools.index import update
from tests.commands import call
from tests.integration.pages.conftest import ADA, COSMO, STAFF, STRANGER, serving
from tests.pages import links_of, text_of

Ask = Callable[[Caller], httpx.Client]
ODD = b"<img src=x onerror=alert(1)> \xff.h5"


def write(path: bytes, exposure_ms: int) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/data", (3, 4), "f4")
        data.attrs["exposure"], data.attrs["exposure_units"] = exposure_ms, "ms"
        data.attrs["sample"] = "<script>MgFe2O4</script>"
        data.attrs["odd`name"] = [np.nan, np.inf]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two indexes: `beam` of sixty files and an odd one, `secret` of one."""
    for name in ("beam", "secret"):
        (tmp_path / name).mkdir()
    for number in range(60):
        write(bytes(tmp_path / "beam" / f"run{number:02}.h5"), 100 * number)
    write(bytes(tmp_path / "beam") + b"/" + ODD, 9999)
    write(bytes(tmp_path / "secret" / "hidden.h5"), 1)
    for name in ("beam", "secret"):
        update.update(tmp_path / f"{name}.index", [bytes(tmp_path / name)])
    return tmp_path


@pytest.fixture
def ask(folder: Path, settings: Settings, database: Database) -> Iterator[Ask]:
    """Ada's group may search `beam`; nobody but staff `secret`; `gone` is no index."""
    index = {
        "beam": Hdf5IndexSettings(
            path=folder / "beam.index", readers=("no-such-group", str(COSMO))
        ),
        "secret": Hdf5IndexSettings(path=folder / "secret.index"),
        "gone": Hdf5IndexSettings(path=folder / "gone.index"),
    }
    configured = settings.model_copy(update={"hdf5": Hdf5Settings(index=index)})
    with ExitStack() as stack:
        yield lambda caller: stack.enter_context(serving(configured, database, caller))


def test_the_api_answers_what_the_command_prints(
    ask: Ask, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client = ask(ADA)
    wanted = {"index": "beam", "query": "exposure > 5 s and has sample", "show": "odd`name"}
    answer = client.get("/api/v1/hdf5/search", params=wanted).json()
    printed = call(
        capfd, "hdf5", "search", folder / "beam.index", wanted["query"], "--show", "odd`name",
        "--json",
    ).json  # fmt: skip
    assert answer["matches"] == printed["matches"] == 10
    assert answer["rows"] == printed["rows"]
    assert answer["rows"][0]["attributes"] == {"odd`name": ["NaN", "Infinity"]}
    [odd] = [row for row in answer["rows"] if "file_b64" in row]
    assert odd["path"] == "/entry/data"
    part = client.get("/api/v1/hdf5/search", params=wanted | {"number": "3", "skip": "8"}).json()
    assert part["rows"] == answer["rows"][8:]
    by_file = client.get("/api/v1/hdf5/search", params=wanted | {"by_file": "true"}).json()
    assert {row["path"] for row in by_file["rows"]} == {"/"}
    names = client.get("/api/v1/hdf5/attributes", params={"index": "beam"}).json()
    listed = call(capfd, "hdf5", "attributes", folder / "beam.index", "--json").json
    assert names["rows"] == listed["rows"]
    assert (names["files"], names["objects"]) == (61, 61 * 3)
    wrong = client.get("/api/v1/hdf5/search", params=wanted | {"query": "exposure > 5 parsnips"})
    assert (wrong.status_code, "parsnips" in wrong.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("caller", "may"), [(STAFF, {"beam", "secret", "gone"}), (ADA, {"beam"}), (STRANGER, set())]
)
def test_nobody_learns_of_what_they_may_not_search(ask: Ask, caller: Caller, may: set[str]) -> None:
    client = ask(caller)
    listed = client.get("/api/v1/hdf5/indexes").json()["rows"]
    assert {row["name"] for row in listed} == may
    for name in ("beam", "secret", "no such"):
        answers = [
            client.get(f"{page}?{urlencode({'index': name, 'query': 'has sample'})}")
            for page in ("/api/v1/hdf5/search", "/api/v1/hdf5/attributes", "/hdf5")
        ]
        if name in may:
            assert [answer.status_code for answer in answers] == [200, 200, 200]
            continue
        for answer in answers[:2]:
            assert answer.status_code == 404
            # Word for word what is said of one that does not exist.
            assert answer.json()["detail"] == f"there is no index {name!r} that you may search"
        assert answers[2].status_code == (404 if may else 200)
        assert not [a for a in answers if ".h5" in a.text.replace(f"index={name}", "")]
    start = client.get("/hdf5")
    assert start.status_code == 200
    if not may:
        assert "no index of HDF5 files that you may search" in text_of(start.text)
    assert ("secret" in start.text) == ("secret" in may)


def test_the_page_lists_attributes_and_finds_objects(ask: Ask) -> None:
    client = ask(ADA)
    start = client.get("/hdf5")
    words = text_of(start.text)
    assert "61 files with 183 objects" in words
    assert "exposure 61 0 9999" in words
    [link] = [link for link in links_of(start.text) if "exposure%60" in link]
    assert text_of(client.get(link).text).count("/entry/data") == 50
    found = client.get("/hdf5", params={"query": "exposure > 500 ms", "show": "exposure, sample"})
    words = text_of(found.text)
    assert "55 objects found" in words
    assert "Page 1 of 2" in words
    assert "float32 (3, 4) 600 <script>MgFe2O4</script>" in words
    assert "<script>MgFe" not in found.text
    second = client.get("/hdf5", params={"query": "exposure > 500 ms", "number": "2"})
    assert text_of(second.text).count("/entry/data") == 5
    odd = client.get("/hdf5", params={"query": "exposure = 9999"})
    assert "<img src=x" not in odd.text
    assert "\\xff.h5" in text_of(odd.text)
    files = client.get("/hdf5", params={"query": "exposure > 5 s", "by_file": "true"})
    assert "10 files found" in text_of(files.text)
    assert "Nothing in this index" in client.get("/hdf5", params={"query": "exposure < 0"}).text


@pytest.mark.parametrize("query", ["exposure >", "exposure > 5 parsnips", "(" * 900, "<b>x"])
def test_a_query_that_means_nothing_is_explained_on_the_page(ask: Ask, query: str) -> None:
    answer = ask(ADA).get("/hdf5", params={"query": query})
    assert answer.status_code == 200
    assert "The query is not understood:" in text_of(answer.text)
    assert "<b>x" not in answer.text


def test_an_index_is_followed_and_may_be_missing(ask: Ask, folder: Path) -> None:
    client = ask(STAFF)
    wanted = {"index": "secret", "query": "has sample"}
    assert client.get("/api/v1/hdf5/search", params=wanted).json()["matches"] == 1
    write(bytes(folder / "secret" / "second.h5"), 2)
    update.update(folder / "secret.index", [bytes(folder / "secret")], only_changed=True)
    assert client.get("/api/v1/hdf5/search", params=wanted).json()["matches"] == 2
    gone = client.get("/api/v1/hdf5/search", params=wanted | {"index": "gone"})
    assert gone.status_code == 503
    assert str(folder) not in gone.text
    assert client.get("/hdf5", params={"index": "gone"}).status_code == 503
    segments = sorted((folder / "secret.index").glob("*.segment"))
    os.truncate(segments[-1], 100)
    (folder / "secret.index" / "manifest.json").touch()
    broken = client.get("/api/v1/hdf5/search", params=wanted)
    assert broken.status_code == 503
    assert str(folder) not in broken.text


def test_the_pages_need_none_of_the_extra_until_a_search() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('h5py', 'numpy', 'pint'))); "
        "import hdf5_tools.routes, dashboard.hdf5"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
