"""`datamgr scan`: run and manage file-system scans."""

import time
from dataclasses import replace
from typing import Any

import click
from sqlalchemy import orm

from datamgr import catalog, identity
from datamgr.cli import options, output, progress
from datamgr.config import Settings
from datamgr.db import Database, open_database
from datamgr.errors import NotFoundError
from datamgr.units import format_count
from scanners import (
    engine_options,
    import_cli,
    parts,
    queries,
    record,
    retention,
    store,
    visibility,
)
from scanners import publish as publishing
from scanners import scan as scanning
from scanners import tasks as queued
from scanners.walk import Progress

LIST_COLUMNS = [
    output.count("id", "scan"),
    output.text("filesystem", "file system"),
    output.text("shown_state", "state"),
    output.time("started_at", "started"),
    output.count("entries", "files"),
    output.count("directories", "directories"),
    output.count("error_count", "errors"),
    output.text("failure", "failure"),
]


@click.group()
def scan() -> None:
    """File-system scans: what every figure comes from.

    A scan records every inode of a tree as Parquet files, rolls them up and publishes the
    totals. The newest published scan of a file system answers all questions about it.
    """


scan.add_command(import_cli.import_)


@scan.command()
@click.argument("paths", nargs=-1, required=True, type=options.PATH, metavar="PATH...")
@click.option(
    "--name",
    "filesystem",
    required=True,
    metavar="FS",
    help="Name of the file system, such as cfs.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Walking processes; default one a core."
)
@click.option("--cross-mounts", is_flag=True, help="Enter other file systems mounted below PATH.")
@click.option("--no-wait", is_flag=True, help="Queue the scan for `datamgr worker` and return.")
@options.as_json
@engine_options.pass_settings
def run(
    settings: Settings,
    paths: tuple[bytes, ...],
    filesystem: str,
    workers: int | None,
    cross_mounts: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Scan PATH... as file system FS and publish the result.

    Until it is published the earlier scan stays current, whatever happens. What cannot be read
    is counted and named: see `datamgr scan show`. Scan as root, or with CAP_DAC_READ_SEARCH,
    to see everything.
    """
    request = scanning.ScanRequest(filesystem, paths, workers or 0, cross_mounts)
    with open_database(settings) as database:
        if no_wait:
            _queue(settings, database, request, as_json)
            return
        scan_id = run_with_progress(settings, database, request)
        with database.transaction(read_only=True) as session:
            row = scan_row(session, scan_id)
    if as_json:
        output.emit("scan.run", [row])
    else:
        click.echo(summary(row))


def _queue(
    settings: Settings, database: Database, request: scanning.ScanRequest, as_json: bool
) -> None:
    resolved = replace(request, roots=scanning.checked_roots(request.roots))
    caller = identity.current(settings)
    with database.transaction() as session:
        catalog.ensure_filesystem(session, request.filesystem)
        task_id = queued.submit(session, caller, resolved).id
    if as_json:
        output.emit("scan.queued", [{"task_id": task_id, "filesystem": request.filesystem}])
    else:
        click.echo(f"queued as task {task_id}; see `datamgr task show {task_id}`")


def run_with_progress(settings: Settings, database: Database, request: scanning.ScanRequest) -> int:
    """Scan with a line on the terminal: entries, rate and errors."""
    begin = time.monotonic()
    with progress.progress_line() as show:

        def on_progress(seen: Progress) -> None:
            total = seen.entries + seen.directories
            rate = total / max(time.monotonic() - begin, 0.001)
            show(
                f"walking: {format_count(total)} entries, {format_count(int(rate))}/s, "
                f"{format_count(seen.errors)} errors"
            )

        return scanning.run(
            settings, database, request, on_progress, lambda step: show(f"{step} ...")
        )


def summary(row: dict[str, Any]) -> str:
    """One line about a finished scan."""
    seconds = row["timings_s"]
    total = row["entries"] + row["directories"]
    steps = ", ".join(f"{step} {value:.1f} s" for step, value in seconds.items())
    line = (
        f"scan {row['id']} of {row['filesystem']}: {format_count(total)} entries "
        f"({format_count(row['directories'])} directories) in {steps}"
    )
    if row["error_count"]:
        line += f"; {row['error_count']} not counted, see `datamgr scan show {row['id']}`"
    return line


@scan.command(name="list")
@options.as_json
@options.pass_settings
def list_(settings: Settings, as_json: bool) -> None:
    """List all scans, oldest first. Entries that could not be counted stand under errors."""
    with open_database(settings) as database, database.transaction(read_only=True) as session:
        rows = queries.scans(session)
    if as_json:
        output.emit("scan.list", rows)
        return
    shown = [
        row | {"shown_state": row["state"] + (", current" if row["current"] else "")}
        for row in rows
    ]
    output.table("Scans", LIST_COLUMNS, shown, empty="no scan yet; run `datamgr scan run`")


@scan.command()
@click.argument("scan_id", metavar="ID", type=int)
@click.option(
    "--errors", "limit", type=click.IntRange(0), default=50, show_default=True,
    help="How many errors to list.",
)  # fmt: skip
@options.as_json
@options.pass_settings
def show(settings: Settings, scan_id: int, limit: int, as_json: bool) -> None:
    """Show one scan: how it went, how long each step took, and what could not be counted.

    The names of what could not be counted are for staff only.
    """
    with visibility.reading(settings) as (session, visible):
        row = scan_row(session, scan_id)
    directory = store.ScanStore(settings.scan_store_dir, row["filesystem"]).path(scan_id)
    # Whoever may not list a directory must not learn from an error what is in it.
    errors = list(parts.read_errors(directory, limit)) if visible.everything else []
    if as_json:
        output.emit("scan.show", errors, scan=row)
        return
    output.details(f"Scan {scan_id}", _SHOW_COLUMNS, row | {"store": str(directory)})
    for reason, number in sorted(row["errors"].items()):
        click.echo(f"  {format_count(number)} {record.REASONS[reason]}")
    if errors:
        columns = [output.path("path", "path"), output.text("reason", "reason")]
        shown = f"Errors ({len(errors)} of {row['error_count']})"
        output.table(shown, [*columns, output.text("message", "what was said")], errors)


_SHOW_COLUMNS = [
    output.text("filesystem", "file system"),
    output.text("state", "state"),
    output.Column("roots", "paths", lambda roots: ", ".join(map(output.printable, roots))),
    output.text("host", "host"),
    output.time("started_at", "started"),
    output.time("finished_at", "walk ended"),
    output.time("published_at", "published"),
    output.count("entries", "files"),
    output.count("directories", "directories"),
    output.Column(
        "timings_s",
        "seconds",
        lambda steps: ", ".join(f"{k} {v:.1f}" for k, v in steps.items()) or "-",
    ),
    output.text("atime_policy", "access times"),
    output.text("failure", "failure"),
    output.text("store", "files in"),
    output.count("error_count", "not counted"),
]


@scan.command()
@click.argument("scan_id", metavar="[ID]", type=int, required=False)
@options.as_json
@engine_options.pass_settings
def publish(settings: Settings, scan_id: int | None, as_json: bool) -> None:
    """Roll scan ID up again and publish it; default the newest complete scan.

    For a scan whose roll-up failed, and to see projects that were registered after the scan.
    """
    with open_database(settings) as database:
        with database.transaction(read_only=True) as session:
            complete = [r["id"] for r in queries.scans(session) if r["finished_at"]]
            if scan_id is None and not complete:
                raise NotFoundError("there is no complete scan; run `datamgr scan run`")
        chosen = complete[-1] if scan_id is None else scan_id
        publishing.publish_again(settings, database, chosen)
    if as_json:
        output.emit("scan.publish", [{"id": chosen}])
    else:
        click.echo(f"published scan {chosen}")


@scan.command()
@click.argument("scan_id", metavar="ID", type=int)
@click.option("--force", is_flag=True, help="Also if it is the current scan of its file system.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@options.as_json
@options.pass_settings
def remove(settings: Settings, scan_id: int, force: bool, dry_run: bool, as_json: bool) -> None:
    """Remove scan ID: its figures and its Parquet files. The projects' history stays."""
    caller = identity.current(settings)
    with open_database(settings) as database:
        done = retention.remove(settings, database, caller, scan_id, force=force, dry_run=dry_run)
    if as_json:
        output.emit("scan.remove", [{"id": scan_id}], dry_run=dry_run)
    else:
        click.echo(done)


def scan_row(session: orm.Session, scan_id: int) -> dict[str, Any]:
    """One scan as `scan list` shows it.

    Raises:
        NotFoundError: there is none of this number.
    """
    queries.scan_by_id(session, scan_id)
    return next(row for row in queries.scans(session) if row["id"] == scan_id)
