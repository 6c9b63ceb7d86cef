"""The parts of the page of a project: rows with their bars, and what is drawn of them."""

from datetime import UTC, date, datetime, time

from sqlalchemy import orm

from dashboard import charts, choices, treemap, trend_chart
from dashboard.choices import UsageChoice
from datamgr import db
from datamgr.errors import InvalidError
from scanners import ages, browsing, growth, history, leaders, queries, trend
from scanners.queries import Row, Selection
from scanners.visibility import Visibility

YEAR_S = 365 * ages.DAY_S
MAP_ROWS = 60


def projects(session: orm.Session, visible: Visibility, selection: Selection) -> Row:
    """The projects with their bars, and what they sum up to."""
    rows = queries.projects(session, visible, selection)
    biggest = {key: max((row[key] for row in rows), default=0) for key in ("alloc_bytes", "inodes")}
    for row in rows:
        row["bytes_bar"] = charts.of_quota(
            row["alloc_bytes"], row["quota_bytes"], biggest["alloc_bytes"]
        )
        row["inodes_bar"] = charts.of_quota(row["inodes"], row["quota_inodes"], biggest["inodes"])
    return {
        "rows": rows,
        "alloc_bytes": sum(row["alloc_bytes"] for row in rows),
        "files": sum(row["files"] for row in rows),
        "directories": sum(row["directories"] for row in rows),
        "number": sum(1 for row in rows if row["number"] > 0),
        "with_quota": sum(1 for row in rows if row["quota_bytes"] or row["quota_inodes"]),
    }


def histogram(session: orm.Session, visible: Visibility, selection: Selection, basis: str) -> Row:
    """Files by age with bars by space and by number, and the share of what is over a year old."""
    rows = queries.ages_of_files(session, visible, selection, basis)
    total = sum(row["alloc_bytes"] for row in rows)
    biggest, most = (max(row[key] for row in rows) for key in ("alloc_bytes", "files"))
    for row in rows:
        row["bar"] = charts.of_bin(row["alloc_bytes"], biggest, row["bin"])
        row["files_bar"] = charts.of_bin(row["files"], most, row["bin"])
        row["percent"] = charts.percent(row["alloc_bytes"], total)
    old = sum(row["alloc_bytes"] for row in rows if (row["below_s"] or YEAR_S + 1) > YEAR_S)
    return {"rows": rows, "old_bytes": old, "old_percent": charts.percent(old, total)}


def biggest(
    session: orm.Session, visible: Visibility, selection: Selection, choice: UsageChoice
) -> dict[str, list[Row]]:
    """The biggest directories and files, with bars coloured by age."""
    lists = {
        "directories": leaders.directories(
            session, visible, selection, choice.top, parents=choice.parents
        ),
        "files": leaders.files(session, visible, selection, choice.top),
    }
    for rows in lists.values():
        most = max((row["alloc_bytes"] for row in rows), default=0)
        for row in rows:
            row["age_s"] = row[f"{choice.basis}_age_s"]
            row["bar"] = charts.of_age(row["alloc_bytes"], most, row["age_s"])
    return lists


def owners(
    session: orm.Session, visible: Visibility, selection: Selection, owner: str
) -> list[Row]:
    """Users or groups with their bars and their part of the whole."""
    return charts.with_shares(queries.by_owner(session, visible, selection, owner))


def trends(
    session: orm.Session, visible: Visibility, selection: Selection, measure: str
) -> list[Row]:
    """Of each file system that knows the project: its scans, their chart and the forecasts."""
    found = []
    now = db.utc_now()
    for filesystem, rows in history.series(session, visible, selection).items():
        forecasts = history.forecasts(rows)
        column, quota = history.MEASURES[measure], rows[-1][f"{measure}_now"]
        found.append(
            {
                "filesystem": filesystem,
                "rows": rows,
                "quota": quota,
                "chart": trend_chart.of(rows, column, quota, forecasts[measure]),
                "slope": forecasts[measure].slope,
                "sentence": trend.sentence(forecasts[measure], now),
            }
        )
    return found


def treemap_of(session: orm.Session, visible: Visibility, path: bytes, choice: UsageChoice) -> Row:
    """The directories in one, as rectangles coloured by age, and what lies beside them."""
    top = queries.directory(session, visible, path, choice.filesystem)
    rows, _ = browsing.child_directories(session, visible, top, MAP_ROWS)
    rest = max(0, top["alloc_bytes"] - sum(row["alloc_bytes"] for row in rows))
    for row in rows:
        row["age_s"] = row[f"{choice.basis}_age_s"]
        row["tone"] = charts.age_tone(ages.bin_of(row["age_s"]))
        row["name"] = row["path"].rpartition(b"/")[2]
        row["at"] = choices.encode_path(row["path"])
        row["percent"] = charts.percent(row["alloc_bytes"], top["alloc_bytes"])
    if rest:
        others = {"path": None, "name": "files here, and smaller directories", "tone": "age-none"}
        part = charts.percent(rest, top["alloc_bytes"])
        rows.append({**others, "alloc_bytes": rest, "age_s": None, "percent": part})
        rows.sort(key=lambda row: -row["alloc_bytes"])
    tiles = treemap.tiles([row["alloc_bytes"] for row in rows])
    return {"top": top, "rows": rows, "tiles": tiles}


def growth_since(
    session: orm.Session, visible: Visibility, selection: Selection, choice: UsageChoice
) -> list[Row]:
    """What changed since a date, or the scan before, of each file system that has one."""
    found = []
    for pair in growth.scan_pairs(session, visible, selection, since_of(choice.since)):
        changes = {"project": growth.by_project(session, visible, pair, selection)}
        if choice.project:
            changes["user"] = growth.by_user(session, visible, pair, selection)
        # Compares every directory of two scans, which may take a while: only when asked for.
        if choice.directories:
            changes["directory"] = growth.by_directory(
                session, visible, pair, selection, choice.top
            )
        grown = sum(row["grown_bytes"] for row in changes["project"])
        if choice.project:
            del changes["project"]
        tables = {kind: _changed(rows) for kind, rows in changes.items()}
        found.append({**pair, "tables": tables, "grown_bytes": grown})
    return found


def since_of(text: str) -> datetime | None:
    """The moment that a date in an address means, the end of that day in UTC.

    Raises:
        InvalidError: it is no date.
    """
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidError("the date must be written like 2026-01-31") from error
    return datetime.combine(day, time.max, UTC)


def _changed(rows: list[Row]) -> list[Row]:
    rows = [row for row in rows if row["grown_bytes"] or row["grown_inodes"]]
    biggest = max((abs(row["grown_bytes"]) for row in rows), default=0)
    for row in rows:
        row["bar"] = charts.of_change(row["grown_bytes"], biggest)
    return rows
