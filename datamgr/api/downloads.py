"""Tables as CSV files, for spreadsheets and programs."""

import base64
import csv as csv_format
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from fastapi import Response

from datamgr import display, units
from datamgr.display import Row

MOST_ROWS = 100_000

# What spreadsheets take for the begin of a formula. Source: OWASP, "CSV Injection".
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv(name: str, columns: Sequence[str], rows: Iterable[Row]) -> Response:
    """The rows as a file `<name>.csv` in UTF-8; times are ISO 8601, sizes bytes.

    Paths are shown as on the pages, with `path_b64` beside them where that is not their bytes.
    A text that a spreadsheet would run as a formula begins with an apostrophe.
    Source: RFC 4180.
    """
    text = io.StringIO()
    put = csv_format.writer(text, lineterminator="\r\n").writerow
    put([header for column in columns for header in _headers(column)])
    for row in rows:
        put([cell for column in columns for cell in _cells(column, row[column])])
    return Response(
        text.getvalue().encode("utf-8", "backslashreplace"),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


def _headers(column: str) -> list[str]:
    return [column, f"{column}_b64"] if column in ("path", "name") else [column]


def _cells(column: str, value: Any) -> list[Any]:
    cells = [_cell(value)]
    if column in ("path", "name"):
        exact = value if isinstance(value, bytes) else str(value or "").encode()
        same = display.printable(exact).encode("utf-8", "surrogateescape") == exact
        cells.append("" if same else base64.b64encode(exact).decode("ascii"))
    return cells


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return units.format_time(value)
    if isinstance(value, str | bytes):
        shown = display.printable(value)
        return f"'{shown}" if shown.startswith(_FORMULA) else shown
    return "" if value is None else value
