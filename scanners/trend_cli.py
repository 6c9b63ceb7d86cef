"""`datamgr usage trend` and `datamgr usage reconcile`."""

from datetime import UTC, datetime
from typing import Any

import click

from datamgr import db, units
from datamgr.cli import options, output
from datamgr.config import Settings
from scanners import history, reconcile, trend, visibility
from scanners.queries import Row, Selection
from scanners.trend import Forecast

BAR_WIDTH = 30


@click.command(name="trend")
@click.argument("project")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), metavar="DATE",
    help="Only scans from this date (UTC) on, also for the forecast.",
)  # fmt: skip
@click.option("--filesystem", metavar="FS", help="Only this file system.")
@options.as_json
@options.pass_settings
def trend_(
    settings: Settings, project: str, since: datetime | None, filesystem: str | None, as_json: bool
) -> None:
    """How PROJECT grew, scan by scan, and when its quotas will be full.

    The forecast takes growth to go on as in the last 90 days (or since --since), without
    another clean-up. The growth is the median over all pairs of scans, so single unusual scans
    do not move it; the days "between" are its 95 % confidence interval. Bars are use on disk
    against the quota, or against the largest use without one.

    \b
    Example:
      datamgr usage trend cosmo --since 2026-01-01
    """
    since = since.replace(tzinfo=UTC) if since else None
    now = db.utc_now()
    with visibility.reading(settings) as (session, visible):
        series = history.series(session, visible, Selection(filesystem, project), since)
    found = {name: history.forecasts(rows, windowed=since is None) for name, rows in series.items()}
    if as_json:
        _emit(project, since, series, found, now)
        return
    for name, rows in series.items():
        _show(project, name, rows)
        for measure, forecast in found[name].items():
            click.echo(f"{measure:<6}  {_growth(measure, forecast)}{trend.sentence(forecast, now)}")


def _emit(
    project: str,
    since: datetime | None,
    series: dict[str, list[Row]],
    found: dict[str, dict[str, Forecast]],
    now: datetime,
) -> None:
    rows = [
        {key: value for key, value in row.items() if not key.endswith("_now")}
        for of_filesystem in series.values()
        for row in of_filesystem
    ]
    forecasts = [
        _forecast_row(name, measure, forecast, now)
        for name, by_measure in found.items()
        for measure, forecast in by_measure.items()
    ]
    output.emit("usage.trend", rows, project=project, since=since, forecasts=forecasts)


def _forecast_row(name: str, measure: str, forecast: Forecast, now: datetime) -> dict[str, Any]:
    slope = forecast.slope
    return {
        "filesystem": name,
        "measure": measure,
        "state": forecast.state,
        "per_day": slope.per_day if slope else None,
        "per_day_low": slope.low if slope else None,
        "per_day_high": slope.high if slope else None,
        "days": trend.days_left(forecast, now),
        "full_at": forecast.full_at,
        "earliest_at": forecast.earliest_at,
        "latest_at": forecast.latest_at,
        "sentence": trend.sentence(forecast, now),
    }


def _show(project: str, filesystem: str, rows: list[Row]) -> None:
    full = rows[-1]["bytes_now"] or max(row["alloc_bytes"] for row in rows) or 1
    shown = [{**row, "bar": _bar(row["alloc_bytes"] / full)} for row in rows]
    columns = [
        output.time("scanned_at", "scanned"),
        output.size("alloc_bytes", "on disk"),
        output.size("quota_bytes", "quota"),
        output.Column("bar", ""),
        output.count("inodes", "inodes"),
        output.count("quota_inodes", "inode quota"),
    ]
    output.table(f"{output.printable(project)} on {filesystem}", columns, shown)


def _bar(part: float) -> str:
    """What is used, up to the quota; `>` stands for what is above it."""
    filled = round(BAR_WIDTH * min(part, 1))
    return "█" * filled + "·" * (BAR_WIDTH - filled) + (">" if part > 1 else "")


def _growth(measure: str, forecast: Forecast) -> str:
    if forecast.slope is None:
        return ""
    week = round(7 * forecast.slope.per_day)
    amount = units.format_bytes(week) if measure == "bytes" else units.format_count(week)
    return f"{amount} a week: "


@click.command(name="reconcile")
@click.argument("project", required=False)
@options.as_json
@options.pass_settings
def reconcile_(settings: Settings, project: str | None, as_json: bool) -> None:
    """The scan beside the quota system: what each counts of the projects, or of PROJECT.

    The quota system's figures are those of the last `datamgr project quotas`. The two differ
    for good reasons: files migrated to tape take quota but few blocks or the reverse, replicas
    count twice in quotas, snapshots and deleted open files are in no scan, and the two were
    taken at different times. A difference that none of these explains is worth a look.
    """
    now = db.utc_now()
    with visibility.reading(settings) as (session, visible):
        rows = reconcile.compare(session, visible, project, now)
    if as_json:
        output.emit("usage.reconcile", rows, project=project)
        return
    shown = [{**row, "what": measure} | _pair(row, measure) for row in rows for measure in _SHOW]
    output.table("Scan and quota system", COLUMNS, shown, empty=reconcile.NO_REPORT)
    if rows:
        click.echo("Migrated files, replicas and snapshots make the two differ.")


_SHOW = {"bytes": units.format_bytes, "inodes": units.format_count}

COLUMNS = [
    output.text("project", "project"),
    output.text("what", "of"),
    output.Column("scan", "scan", right=True),
    output.Column("quota_system", "quota system", right=True),
    output.Column("difference", "difference", right=True),
    output.percent("percent", "%"),
    output.age("scan_age_s", "scan age"),
    output.age("report_age_s", "report age"),
    output.text("source", "from"),
]


def _pair(row: Row, measure: str) -> Row:
    shown = _SHOW[measure]
    return {
        "scan": shown(row[f"scan_{measure}"]),
        "quota_system": shown(row[f"report_{measure}"]),
        "difference": shown(row[f"difference_{measure}"]),
        "percent": row[f"difference_{measure}_percent"],
    }
