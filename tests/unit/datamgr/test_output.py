"""Rows as tables and JSON: nothing that a file is called harms a terminal or a parser."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamgr.cli import output

NAMES = st.binary(min_size=1, max_size=40)


def emitted(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], **head: Any) -> Any:
    output.emit("test", rows, **head)
    return json.loads(capsys.readouterr().out)


@given(NAMES)
def test_a_printed_name_holds_no_control_character(name: bytes) -> None:
    shown = output.printable(name)
    assert shown.isprintable()
    if name.isascii() and name.decode().isprintable():
        assert shown == name.decode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"a\nb", "a\\nb"), (b"\x1b[31m", "\\x1b[31m"), (b"\xff", "\\xff"), ("é".encode(), "é"),
     ("\u202e".encode(), "\\u202e"), ("日本", "日本"), (5, "5")],
)  # fmt: skip
def test_what_is_not_printable_is_escaped(name: object, shown: str) -> None:
    assert output.printable(name) == shown


@given(NAMES)
def test_a_path_can_be_had_back_from_json(name: bytes) -> None:
    row = json.loads(json.dumps(output.encode_row({"path": name})))
    whole = row.get("path_b64")
    assert (base64.b64decode(whole) if whole else row["path"].encode()) == name


def test_times_are_iso_8601_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    when = datetime(2030, 1, 1, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    rows = [{"at": when, "inner": {"at": when.astimezone(UTC)}, "none": None}]
    assert emitted(capsys, rows)["rows"] == [
        {"at": "2030-01-01T00:30:00Z", "inner": {"at": "2030-01-01T00:30:00Z"}, "none": None}
    ]


def test_one_object_carries_schema_head_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    found = emitted(capsys, [{"files": 2**63 - 1}], project=None, scans=[{"id": 1}])
    assert found == {
        "schema": "test", "project": None, "scans": [{"id": 1}], "rows": [{"files": 2**63 - 1}],
    }  # fmt: skip


def test_paths_in_lists_are_text_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert emitted(capsys, [{"roots": [b"/a", b"/b"]}])["rows"] == [{"roots": ["/a", "/b"]}]


def test_a_table_takes_no_markup_and_folds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": b"[red]x[/red]" + b"y" * 120, "size": 1536, "age": None}]
    columns = [output.path("path", "path"), output.size("size", "size"), output.age("age", "age")]
    output.table("Title", columns, rows)
    printed = capsys.readouterr().out
    assert "[red]x[/red]" + "y" * 120 in printed
    assert "1.5 KiB" in printed


def test_no_rows_are_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    output.table("Title", [], [], empty="none yet")
    assert capsys.readouterr().out == "Title\n  none yet\n\n"


def test_a_title_stands_in_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Wider than its table, and with the name of a file that looks like markup."""
    title = "/data/[red]run42.h5 was marked as being written"
    output.table(title, [output.text("a", "a")], [{"a": "b"}])
    assert capsys.readouterr().out.splitlines()[0] == title
