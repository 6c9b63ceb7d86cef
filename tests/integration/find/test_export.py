"""`datamgr usage export`: whole tables as files, complete or not at all."""

import base64
import csv
import io
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamgr.errors import ConflictError, UnavailableError
from scanners import export, files_cli, tables
from tests.commands import DATAMGR, call
from tests.integration.find.conftest import Scanned
from tests.mounts import needs_root, tmpfs

pytestmark = [needs_root, pytest.mark.root]
SCHEMA = pa.schema([("path", pa.binary()), ("size_bytes", pa.int64())])
QUESTIONS = {
    "projects": ["usage"],
    "users": ["usage", "--by", "user"],
    "groups": ["usage", "--by", "group"],
    "top-files": ["usage", "top", "--files", "10000"],
    "files": ["find", "--kind", "flpscb"],
}


def in_csv(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_command_knows_the_tables() -> None:
    assert tuple(tables.TABLES) == files_cli.TABLES


@pytest.mark.parametrize("table", files_cli.TABLES)
def test_csv_and_parquet_hold_the_same(
    scanned: Scanned, table: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {suffix: tmp_path / f"{table}.{suffix}" for suffix in ("csv", "parquet")}
    for file in files.values():
        done = call(capfd, "usage", "export", table, "--to", file)
        assert done.exit_code == 0, done.stderr
    text = files["csv"].read_bytes().decode()
    assert call(capfd, "usage", "export", table, "--to", "-").stdout == text
    rows = in_csv(text)
    exact = pq.read_table(files["parquet"])
    assert len(rows) == exact.num_rows > 0
    assert done.stdout.startswith(f"{exact.num_rows} rows in ")
    names = [name for name in rows[0] if name != "path_b64"]
    assert names == exact.schema.names
    for row, other in zip(rows, exact.to_pylist(), strict=True):
        if "path" in row:
            encoded = row["path_b64"]
            path = base64.b64decode(encoded) if encoded else row["path"].encode()
            assert path == other["path"]
        for name in names:
            if isinstance(other[name], int):
                assert int(row[name]) == other[name]
            if other[name] is None:
                assert row[name] == ""


@pytest.mark.parametrize("table", QUESTIONS)
def test_the_rows_are_those_that_the_commands_show(
    scanned: Scanned, table: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = in_csv(call(capfd, "usage", "export", table, "--to", "-").stdout)
    shown = call(capfd, *QUESTIONS[table], "--json").json["rows"]
    assert len(rows) == len(shown)

    def ordered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(found, key=lambda row: str(row.get("path_b64") or row.get("path") or row))

    for row, other in zip(ordered(rows), ordered(shown), strict=True):
        for name, value in row.items():
            assert value == str(other.get(name) if other.get(name) is not None else ""), name


def test_one_project_alone(scanned: Scanned, capfd: pytest.CaptureFixture[str]) -> None:
    for table in ("directories", "files"):
        done = call(capfd, "usage", "export", table, "--project", "alpha", "--to", "-")
        top = f"{scanned.root}/alpha"
        assert all(row["path"].startswith(top) for row in in_csv(done.stdout))
    done = call(capfd, "usage", "export", "files", "--project", "nosuch", "--to", "-")
    assert (done.exit_code, done.stdout) == (3, "")


def test_a_file_is_replaced_only_when_asked(
    scanned: Scanned, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users.csv"
    file.write_text("precious")
    done = call(capfd, "usage", "export", "users", "--to", file)
    assert done.exit_code == 6
    assert "replace it by --force" in done.stderr
    assert file.read_text() == "precious"
    assert call(capfd, "usage", "export", "users", "--to", file, "--force").exit_code == 0
    assert file.read_text().startswith("user,uid,")
    assert os.listdir(tmp_path) == ["users.csv"]


@pytest.mark.parametrize(
    ("to", "exit_code", "words"),
    [
        ("users.txt", 4, "neither .csv nor .parquet"),
        ("users", 4, "neither .csv nor .parquet"),
        ("nosuch/users.csv", 3, "does not exist"),
        ("folder.csv", 4, "is no regular file"),
        ("pipe.csv", 4, "is no regular file"),
        ("dangling.csv", 6, "replace it by --force"),
    ],
)
def test_where_it_cannot_go(
    scanned: Scanned,
    to: str,
    exit_code: int,
    words: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    before = sorted(os.listdir(tmp_path))
    done = call(capfd, "usage", "export", "users", "--to", tmp_path / to)
    assert done.exit_code == exit_code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == before


def failing() -> Iterator[dict[str, Any]]:
    yield {"path": b"/a", "size_bytes": 1}
    raise UnavailableError("the scan is gone")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str, force: bool) -> None:
    file = tmp_path / f"table.{suffix}"
    if force:
        file.write_text("precious")
    with pytest.raises(UnavailableError, match="the scan is gone"):
        export.write(str(file), SCHEMA, failing(), force=force)
    assert os.listdir(tmp_path) == ([file.name] if force else [])
    assert not force or file.read_text() == "precious"


def test_who_comes_second_does_not_win(tmp_path: Path) -> None:
    """The file appears while the rows are written."""
    file = tmp_path / "table.csv"

    def rows() -> Iterator[dict[str, Any]]:
        file.write_text("theirs")
        yield {"path": b"/a", "size_bytes": 1}

    with pytest.raises(ConflictError, match="was made meanwhile"):
        export.write(str(file), SCHEMA, rows())
    assert os.listdir(tmp_path) == ["table.csv"]
    assert file.read_text() == "theirs"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", 64 << 10) as place:
        rows = ({"path": b"/%d" % n, "size_bytes": n} for n in range(100_000))
        with pytest.raises(UnavailableError, match="No space left"):
            export.write(str(place / "table.csv"), SCHEMA, rows)
        assert os.listdir(place) == []


def test_an_interrupted_export_leaves_nothing(scanned: Scanned, tmp_path: Path) -> None:
    reached, file = threading.Event(), tmp_path / "files.csv"

    def rows() -> Iterator[dict[str, Any]]:
        reached.set()
        while True:
            yield {"path": b"/a", "size_bytes": 1}

    def interrupt() -> None:
        reached.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        export.write(str(file), SCHEMA, rows())
    assert os.listdir(tmp_path) == []


def test_csv_is_read_back_whatever_the_names(tmp_path: Path) -> None:
    names = [b"a,b", b'"', b"\r", b"\n", b"\r\n", b"\xff", b" ", b"", b"=1+1", "é".encode()]
    file = tmp_path / "names.csv"
    export.write(str(file), SCHEMA, ({"path": n, "size_bytes": i} for i, n in enumerate(names)))
    rows = in_csv(file.read_bytes().decode())
    found = [
        base64.b64decode(row["path_b64"]) if row["path_b64"] else row["path"].encode()
        for row in rows
    ]
    assert found == names


def test_no_rows_are_a_file_with_columns(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        assert export.write(str(tmp_path / f"none.{suffix}"), SCHEMA, []) == 0
    assert (tmp_path / "none.csv").read_bytes() == b"path,path_b64,size_bytes\r\n"
    assert pq.read_table(tmp_path / "none.parquet").schema.names == SCHEMA.names


def test_a_reader_of_standard_output_may_stop(scanned: Scanned) -> None:
    with subprocess.Popen(
        [*DATAMGR, "usage", "export", "files", "--to", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr.read() == b""
