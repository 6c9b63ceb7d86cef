"""How results appear: tables for people, one JSON object for programs, from the same rows."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from datamgr import display, units
from datamgr.display import Row

printable = display.printable
encode_row = display.encode_row


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


def emit(schema: str, rows: Sequence[Row], **head: Any) -> None:
    """Print the JSON object `{"schema": …, …head, "rows": […]}`; docs/json.md lists the schemas."""
    body = {"schema": schema, **encode_row(head), "rows": [encode_row(row) for row in rows]}
    click.echo(json.dumps(body, ensure_ascii=True))


def emit_stream(schema: str, rows: Iterable[Row], **head: Any) -> None:
    """As `emit`, with each row printed as it comes, on a line of its own.

    An error in between leaves the object without its end, which no reader takes for whole.
    """
    start = json.dumps({"schema": schema, **encode_row(head), "rows": []}, ensure_ascii=True)
    write = sys.stdout.write
    write(start.removesuffix("]}"))
    separator = "\n"
    for row in rows:
        write(separator + json.dumps(encode_row(row), ensure_ascii=True))
        separator = ",\n"
    write("]}\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[Column], rows: Sequence[Row], *, empty: str = "") -> None:
    """Print rows as a table under its title; `empty` is the sentence that stands for no rows."""
    if not rows:
        click.echo(f"{title}\n  {empty or 'nothing'}\n")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(
            column.heading, justify="right" if column.right else "left", overflow="fold"
        )
    for row in rows:
        # Text, not str: a file named "[red]" is no markup.
        shown.add_row(*(Text(column.show(row[column.key])) for column in columns))
    console = _console()
    # By itself: as the title of the table it would be folded to the width of that.
    click.echo(title)
    if console.is_terminal:
        console.print(shown)
        return
    # Without the spaces that fill the lines up.
    with console.capture() as captured:
        console.print(shown)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def details(title: str, columns: Sequence[Column], row: Row) -> None:
    """Print one row as a list of headings and values."""
    width = max(len(column.heading) for column in columns)
    click.echo(title)
    for column in columns:
        click.echo(f"  {column.heading:<{width}}  {column.show(row[column.key])}")


def _console() -> Any:
    from rich.console import Console

    # A file or pipe gets whole lines: folding them would break what reads them.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
