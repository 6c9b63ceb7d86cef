"""`datamgr alerts`: who is told that a project fills its quota."""

import click

from datamgr import catalog, identity
from datamgr.cli import options, output
from datamgr.config import Settings
from datamgr.db import open_database
from datamgr.errors import UnavailableError
from scanners import alerts as alerting
from scanners import visibility

STATE_COLUMNS = [
    output.text("rule", "rule"),
    output.text("filesystem", "file system"),
    output.text("project", "project"),
    output.text("measure", "measure"),
    output.text("state", "state"),
    output.Column("value", "value", lambda v: "-" if v is None else f"{v:.1f}", right=True),
    output.Column("threshold", "limit", lambda v: f"{v:g}", right=True),
    output.time("since", "since"),
    output.time("notified_at", "told"),
    output.Column("pending", "still to tell", lambda names: ", ".join(names) or "-"),
]


@click.group()
def alerts() -> None:
    """Mail and webhooks when projects fill their quotas.

    \b
    Rules stand in the settings:
      [[alerts.rule]]
      name = "nearly-full"
      bytes_percent = 90
      days_to_full = 30
      email = ["storage@example.org"]

    A notice is sent once when a threshold is crossed and once when it is below again, by at
    least 2 points; nothing in between. `datamgr nightly` checks after the scans.
    """


@alerts.command()
@click.option("--dry-run", is_flag=True, help="Only say who would be told what.")
@options.as_json
@options.pass_settings
def check(settings: Settings, dry_run: bool, as_json: bool) -> None:
    """Compare the current scans with the rules, and tell whoever is to be told.

    What cannot be delivered is tried again at the next check, does not hold up the rest, and
    makes the exit code 7.
    """
    caller = identity.current(settings)
    with open_database(settings) as database:
        with database.transaction(read_only=True) as session:
            catalog.require_manager(session, caller, "send notices")
        rows = alerting.check(database, settings.alerts, dry_run=dry_run)
    if as_json:
        output.emit("alerts.check", rows, dry_run=dry_run)
    else:
        columns = [
            output.text("receiver", "to"),
            output.text("sentence", "notice"),
            output.text("outcome", "outcome"),
        ]
        shown = [row | {"outcome": _outcome(row["error"], dry_run)} for row in rows]
        output.table("Notices", columns, shown, empty="nobody is to be told anything")
    failed = [row["error"] for row in rows if row["error"]]
    if failed:
        raise UnavailableError(
            f"{len(failed)} of {len(rows)} notices could not be delivered: {failed[0]}"
        )


def _outcome(error: str | None, dry_run: bool) -> str:
    return error or ("would be told" if dry_run else "told")


@alerts.command(name="list")
@options.as_json
@options.pass_settings
def list_(settings: Settings, as_json: bool) -> None:
    """List the thresholds that were crossed: since when, and who is still to be told."""
    with visibility.reading(settings) as (session, visible):
        found = alerting.states(session)
    rows = [row for row in found if visible.sees(row["filesystem"], row["project"])]
    if as_json:
        output.emit("alerts.list", rows)
    else:
        output.table("Alerts", STATE_COLUMNS, rows, empty="no threshold was crossed")
