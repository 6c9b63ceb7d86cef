"""`datamgr perms errors`: every entry that a request left as it is."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click
from sqlalchemy import orm

from datamgr import db, display, identity
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.display import Row
from datamgr.identity import Caller
from pitoolbox import queries
from pitoolbox.models import FAILED, SKIPPED

request_id = click.argument("task_id", metavar="ID", type=int)


@contextmanager
def reading(settings: Settings) -> Iterator[tuple[orm.Session, Caller]]:
    """A session that only reads, and who reads."""
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction(read_only=True) as session:
        yield session, caller


@click.command()
@request_id
@click.option("--failed", "only", flag_value=FAILED, help="Only what failed.")
@click.option("--skipped", "only", flag_value=SKIPPED, help="Only what was skipped by policy.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")
@click.option("--null", "as_null", is_flag=True, help="Print paths ended by NUL, for xargs -0.")
@options.as_json
@options.pass_settings
def errors(
    settings: Settings,
    task_id: int,
    *,
    only: str | None,
    as_csv: bool,
    as_null: bool,
    as_json: bool,
) -> None:
    """Name all that request ID left as it is.

    In the order of paths, with the reason. Skipped is what the policy does not change, failed
    is what could not be changed. Paths are relative to the project. In CSV and JSON a path that
    is no UTF-8 stands in `path_b64` too.

    \b
    Examples:
      datamgr perms errors 12 --csv > left-alone.csv
      datamgr perms errors 12 --null | xargs -0 datamgr perms submit --project P chgrp G --
    """
    if as_csv + as_json + as_null > 1:
        raise click.UsageError("--csv, --json and --null exclude each other")
    with reading(settings) as (session, caller):
        queries.visible(session, settings, caller, task_id)
        rows = queries.issues(session, task_id, (only,) if only else ())
        if as_json:
            output.emit_stream("perms.errors", rows, id=task_id)
        elif as_csv:
            _write_csv(rows)
        elif as_null:
            sys.stdout.flush()
            for row in rows:
                sys.stdout.buffer.write(row["path"] + b"\0")
            sys.stdout.buffer.flush()
        else:
            for row in rows:
                path, reason = output.printable(row["path"]), output.printable(row["reason"])
                click.echo(f"{row['kind']:<8} {path}: {reason}")


def _write_csv(rows: Iterable[Row]) -> None:
    """Rows as CSV in UTF-8. Source: RFC 4180."""
    sys.stdout.flush()
    header = ("path", "path_b64", "kind", "reason")
    for encoded in (dict(zip(header, header, strict=True)), *map(display.encode_row, rows)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerow([encoded.get(name) for name in header])
        sys.stdout.buffer.write(text.getvalue().encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
