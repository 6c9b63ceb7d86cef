"""`ghi status`, `df` and `cancel`: what is asked of the archive, and how full everything is."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import click

from datamgr import units
from datamgr.cli import options, output
from tiering import client

Row = Mapping[str, Any]


@click.command()
@click.argument("request", type=int, required=False)
@click.option("--all", "everything", is_flag=True, help="Also all that have ended.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many."
)
@options.as_json
@options.pass_config_path
def status(
    config_path: str | None, *, request: int | None, everything: bool, limit: int, as_json: bool
) -> None:
    """What runs, waits or has failed: your requests, or one with its failures.

    \b
    Examples:
      ghi status            what runs, what waits, and what failed within a day
      ghi status --all      also what has ended
      ghi status 12         one request, and each file that could not be done
    """
    with client.connect(config_path) as service:
        if request is not None:
            rows = [service.ask("show", request=request, failures=100_000)]
        else:
            rows = service.ask("list", all=everything, limit=limit)
    if as_json:
        output.emit("ghi.status", [decoded(row) for row in rows])
    elif request is not None:
        row = rows[0]
        click.echo(f"request {request}: {row['action']} by {row['owner']}, {row['state']}")
        show_outcome(rows[0])
    else:
        _show_list(rows)


@click.command()
@options.as_json
@options.pass_config_path
def df(config_path: str | None, as_json: bool) -> None:
    """How full disk and archive are: files and bytes by state."""
    with client.connect(config_path) as service:
        rows = [decoded(row) for row in service.ask("df")]
    if as_json:
        output.emit("ghi.df", rows)
        return
    shown = [
        {
            "root": output.printable(row["path"]),
            "disk": row["disk_bytes"],
            "free": row["disk_free_bytes"],
            "both": _amount(row["states"]["B"]),
            "archived": _amount(row["states"]["H"]),
            "trash": _amount(row["states"]["trash"]),
            "archive": row["archive"]["bytes"],
        }
        for row in rows
    ]
    columns = [
        output.text("root", "directory"),
        output.size("disk", "disk"),
        output.size("free", "free"),
        output.text("both", "B, on both"),
        output.text("archived", "H, in the archive"),
        output.text("trash", "removed, kept"),
        output.size("archive", "archive"),
    ]
    output.table("Managed directories", columns, shown, empty="none")


@click.command()
@click.argument("request", type=int)
@options.as_json
@options.pass_config_path
def cancel(config_path: str | None, request: int, as_json: bool) -> None:
    """Stop a request of yours: at once if it waits, else between two batches of files.

    What it has done stays done.
    """
    with client.connect(config_path) as service:
        row = service.ask("cancel", request=request)
    if as_json:
        output.emit("ghi.cancel", [decoded(row)])
    else:
        click.echo(f"request {request} is {row['state']}")


def show_outcome(row: Row) -> None:
    """Print how a request is: numbers on standard output, failures on standard error."""
    for failure in row.get("failures", ()):
        path = output.printable(failure["path"].encode("latin-1"))
        click.echo(f"{path}: {failure['reason']}", err=True)
    if row["error"] is not None:
        click.echo(f"request {row['id']} failed: {output.printable(row['error'])}", err=True)
    result = row["result"]
    if result is None:
        click.echo(Forecast().line(row))
        return
    seconds = max(result["seconds"], 0.001)
    unchanged = f", {result['unchanged']} left as they were" if result["unchanged"] else ""
    failed = f", {result['failed']} failed" if result["failed"] else ""
    rate = units.format_bytes(int(result["bytes"] / seconds))
    moved = f", {units.format_bytes(result['bytes'])} in {seconds:.1f} s ({rate}/s)"
    click.echo(
        f"{row['action']}: {_files(result['files'])}{moved if result['bytes'] else ''}"
        f"{unchanged}{failed}"
    )


class Forecast:
    """The line that says how far a request is, and when it will be done."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def line(self, row: Row) -> str:
        """What is to be shown of a row now."""
        progress = row["progress"]
        if row["state"] == "queued" or progress is None:
            return f"request {row['id']} is {row['state']}"
        now, done, total = time.monotonic(), progress["done"], progress["total"]
        if self._first is None:
            self._first = now, done
        began, before = self._first
        rate = (done - before) / max(now - began, 0.1)
        text = f"{progress['message']}, {units.format_bytes(done)}"
        if total:
            text += f" of {units.format_bytes(total)}"
        text += f", {units.format_bytes(int(rate))}/s"
        if total and rate > 0 and total > done:
            text += f", {units.format_age((total - done) / rate)} left"
        return text


def shower(show: Callable[[str], None]) -> Callable[[Row], None]:
    """What shows how far a request is, on a line of progress."""
    forecast = Forecast()
    return lambda row: show(forecast.line(row))


def decoded(row: Row) -> dict[str, Any]:
    """A row as the daemon sent it, with bytes for its paths and times for its times."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("path", "first_path") and isinstance(value, str):
            found[key] = value.encode("latin-1")
        elif key.endswith("_at") and isinstance(value, str):
            found[key] = datetime.fromisoformat(value)
        elif key == "failures":
            found[key] = [decoded(failure) for failure in value]
        else:
            found[key] = value
    return found


def _show_list(rows: list[Row]) -> None:
    forecast = Forecast()
    shown = []
    for row in map(decoded, rows):
        others = f" and {row['paths'] - 1} more" if row["paths"] > 1 else ""
        shown.append(
            row
            | {
                "what": output.printable(row["first_path"] or b"") + others,
                "how": _how(row, forecast),
            }
        )
    columns = [
        output.count("id", "request"),
        output.text("action", "action"),
        output.text("root", "root"),
        output.text("what", "of"),
        output.text("owner", "by"),
        output.time("created_at", "submitted"),
        output.text("state", "state"),
        output.text("how", ""),
    ]
    output.table("Requests", columns, shown, empty="none")


def _how(row: Row, forecast: Forecast) -> str:
    if row["error"] is not None:
        return output.printable(row["error"])
    if row["result"] is None:
        return forecast.line(row) if row["progress"] else ""
    result = row["result"]
    return f"{_files(result['files'])}, {result['failed']} failed"


def _files(number: int) -> str:
    return f"{units.format_count(number)} {'file' if number == 1 else 'files'}"


def _amount(state: Row) -> str:
    number = units.format_count(state["files"])
    return f"{number} ({units.format_bytes(state['bytes'])})"
