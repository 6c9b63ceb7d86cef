"""How results appear: tables for people, one JSON object for programs, from the same rows."""

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from datamgr import units

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table: the row's key, its heading and how a value is shown."""

    key: str
    heading: str
    show: Callable[[Any], str] = str
    right: bool = False


def text(key: str, heading: str) -> Column:
    """A column of words; an absent value is a dash."""
    return Column(key, heading, lambda value: "-" if value is None else printable(value))


def size(key: str, heading: str) -> Column:
    """A column of bytes in binary units."""
    return Column(key, heading, units.format_bytes, right=True)


def count(key: str, heading: str) -> Column:
    """A column of counts."""
    return Column(key, heading, units.format_count, right=True)


def percent(key: str, heading: str) -> Column:
    """A column of percentages; an absent value is a dash."""
    return Column(key, heading, lambda v: "-" if v is None else f"{v:.1f} %", right=True)


def age(key: str, heading: str) -> Column:
    """A column of ages in seconds."""
    return Column(key, heading, units.format_age, right=True)


def time(key: str, heading: str) -> Column:
    """A column of times, in UTC."""
    return Column(key, heading, units.format_time)


def path(key: str, heading: str) -> Column:
    """A column of paths in bytes; what is not printable is escaped."""
    return Column(key, heading, lambda value: "-" if value is None else printable(value))


def printable(value: str | bytes | object) -> str:
    """A name that is safe on a terminal: control characters and invalid UTF-8 are escaped.

    Without this a file name could move the cursor or forge a line of a report.
    """
    name = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if name.isprintable():
        return name
    return "".join(
        c
        if c.isprintable()
        else f"\\x{ord(c) - 0xDC00:02x}"
        if 0xDC80 <= ord(c) <= 0xDCFF
        else c.encode("unicode_escape").decode("ascii")
        for c in name
    )


def emit(schema: str, rows: Sequence[Row], **head: Any) -> None:
    """Print the JSON object `{"schema": …, …head, "rows": […]}`; docs/json.md lists the schemas."""
    body = {"schema": schema, **encode_row(head), "rows": [encode_row(row) for row in rows]}
    click.echo(json.dumps(body, ensure_ascii=True))


def encode_row(row: Row) -> dict[str, Any]:
    """JSON values of a row: ISO 8601 times; paths as display text, `_b64` where it differs."""
    encoded: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, bytes):
            shown = value.decode("utf-8", "replace")
            encoded[key] = shown
            if shown.encode() != value:
                encoded[f"{key}_b64"] = base64.b64encode(value).decode("ascii")
        elif isinstance(value, datetime):
            encoded[key] = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        elif isinstance(value, Mapping):
            encoded[key] = encode_row(value)
        elif isinstance(value, list | tuple):
            encoded[key] = [encode_row(v) if isinstance(v, Mapping) else v for v in value]
        else:
            encoded[key] = value
    return encoded


def table(title: str, columns: Sequence[Column], rows: Sequence[Row], *, empty: str = "") -> None:
    """Print rows as a table under its title; `empty` is the sentence that stands for no rows."""
    if not rows:
        click.echo(f"{title}\n  {empty or 'nothing'}\n")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(
            column.heading, justify="right" if column.right else "left", overflow="fold"
        )
    for row in rows:
        # Text, not str: a file named "[red]" is no markup.
        shown.add_row(*(Text(column.show(row[column.key])) for column in columns))
    _console().print(shown)


def details(title: str, columns: Sequence[Column], row: Row) -> None:
    """Print one row as a list of headings and values."""
    width = max(len(column.heading) for column in columns)
    click.echo(title)
    for column in columns:
        click.echo(f"  {column.heading:<{width}}  {column.show(row[column.key])}")


def _console() -> Any:
    from rich.console import Console

    # A file or pipe gets whole lines: folding at 80 columns would break what reads them.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)
