"""An index whose files a scan has found, without a walk."""

import os
import subprocess
import time
from pathlib import Path

import h5py
import pytest
import sqlalchemy as sa

from datamgr.config import DatabaseSettings, Settings
from datamgr.db import Database
from hdf5_tools.index.index import Index
from scanners import scan
from tests.commands import DATAMGR, call

ODD = os.fsdecode(b"new\nline \xff.h5")


def write(path: Path, sample: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["sample"] = sample


@pytest.fixture
def settings(
    database: Database, database_url: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    url = database_url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATAMGR_DATABASE__URL", url)
    return Settings(state_dir=tmp_path / "state", database=DatabaseSettings(url=url))


def scan_it(settings: Settings, database: Database, root: Path) -> None:
    scan.run(settings, database, scan.ScanRequest("data", [os.fsencode(root)], workers=1))


def samples(index: Path) -> dict[str, str]:
    found = {}
    for row in Index.open(index).search("has sample").rows((b"sample",)):
        [value] = row.attributes[b"sample"] or ()
        assert isinstance(value, bytes)
        found[os.path.basename(os.fsdecode(row.file))] = value.decode()
    return found


def test_files_are_those_of_the_scan(
    settings: Settings, database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, index = tmp_path / "data", tmp_path / "index"
    for name in ("a.h5", "b.NXS", "sub/c.h5", f"sub/{ODD}", "notes.txt"):
        write(root / name, f"old {os.path.basename(name)!r}")
    (root / "link.h5").symlink_to("a.h5")
    write(tmp_path / "elsewhere.h5", "not scanned")
    scan_it(settings, database, root)
    write(root / "later.h5", "came after the scan")
    command = ("hdf5", "index", root, "--into", index, "--update", "--from-scan", "data", "--json")
    first = call(capfd, *command).json
    assert (first["found"], first["read"], first["rows"]) == (4, 4, [])
    assert set(samples(index)) == {"a.h5", "b.NXS", "c.h5", ODD}
    # What is gone since the scan is gone; what changed is read; what came waits for the next scan.
    (root / "a.h5").unlink()
    time.sleep(0.01)
    write(root / "b.NXS", "new")
    second = call(capfd, *command).json
    assert [second[k] for k in ("found", "read", "removed", "rows")] == [3, 1, 1, []]
    assert samples(index)["b.NXS"] == "new"
    scan_it(settings, database, root)
    assert call(capfd, *command).json["read"] == 1
    assert set(samples(index)) == {"later.h5", "b.NXS", "c.h5", ODD}
    # Only below the path.
    (root / "b.NXS").unlink()
    below = ("hdf5", "index", root / "sub", "--into", index, "--from-scan", "data", "--json")
    assert call(capfd, *below).json["found"] == 2
    assert set(samples(index)) == {"later.h5", "b.NXS", "c.h5", ODD}


def test_a_scan_that_cannot_be_asked_takes_nothing_out(
    settings: Settings, database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root, index = tmp_path / "data", tmp_path / "index"
    write(root / "a.h5", "a")
    scan_it(settings, database, root)
    command = ("hdf5", "index", root, "--into", index, "--from-scan")
    assert call(capfd, *command, "data").exit_code == 0
    unknown = call(capfd, *command, "moon")
    assert (unknown.exit_code, "moon" in unknown.stderr) == (3, True), unknown
    outside = call(capfd, "hdf5", "index", tmp_path, "--into", index, "--from-scan", "data")
    assert outside.exit_code in (0, 3), outside
    monkeypatch.setenv("DATAMGR_DATABASE__URL", "postgresql://localhost:1/none")
    assert call(capfd, *command, "data").exit_code == 7
    assert samples(index) == {"a.h5": "a"}


def test_the_list_of_find_can_be_handed_on(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """As the guide says: `datamgr find … --null | xargs -0 datamgr hdf5 index …`."""
    root, index = tmp_path / "data", tmp_path / "index"
    for name in ("a.nxs", "sub/b.nxs", os.fsdecode(b"sub/odd \n\xff.nxs"), "c.h5"):
        write(root / name, "x")
    scan_it(settings, database, root)
    datamgr = " ".join(DATAMGR)
    line = (
        f"set -o pipefail; {datamgr} find --name '*.nxs' --null | "
        f"xargs -0 {datamgr} hdf5 index --into {index} --update"
    )
    subprocess.run(["bash", "-c", line], check=True, stdout=subprocess.DEVNULL)
    assert len(samples(index)) == 3
    # One is gone since the scan.
    (root / "a.nxs").unlink()
    done = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True)
    assert b"1 removed" in done.stdout
    assert len(samples(index)) == 2
