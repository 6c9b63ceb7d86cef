"""Who is told that a project fills its quota: once when a threshold is crossed, once when it is
below again.

What counts as crossed is kept in `alert_state`, with the receivers that are still to be told. A
receiver is taken off that list after its delivery succeeded: a failed one is tried again at the
next check, and only a process killed between the two tells somebody twice, under the same `id`.
"""

import fnmatch
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr import db
from datamgr.config_nightly import AlertRule, AlertSettings
from datamgr.db import Base, Database
from datamgr.errors import DatamgrError, NotFoundError
from scanners import history, notices, queries, trend
from scanners.lock import ALERTS_CHECK, NIGHTLY_CLASS, advisory_lock
from scanners.notices import ABOVE, BELOW, Notice
from scanners.queries import Row, Selection
from scanners.visibility import EVERYTHING

log = logging.getLogger(__name__)

# How far below its threshold a percentage has to be before it counts as below again.
HYSTERESIS_POINTS = 2.0
# The same for days: forecasts move by more than that from night to night.
HYSTERESIS_DAYS_PART = 0.1


class AlertState(Base):
    """A threshold that was crossed: whether it still is, since when, and who is still to be told.

    `value` is what was measured last; NULL where nothing is known, such as without a quota.
    `notified_at` is when the last receiver was told.
    """

    __tablename__ = "alert_state"

    rule: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    filesystem: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    project: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    measure: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    state: orm.Mapped[str] = orm.mapped_column(
        sa.CheckConstraint("state IN ('above', 'below')", name="state")
    )
    since: orm.Mapped[datetime]
    value: orm.Mapped[float | None] = orm.mapped_column(sa.Double)
    threshold: orm.Mapped[float] = orm.mapped_column(sa.Double)
    notified_at: orm.Mapped[datetime | None]
    pending: orm.Mapped[list[str]] = orm.mapped_column(postgresql.ARRAY(sa.Text))


@dataclass(frozen=True)
class Reading:
    """One threshold of one rule, and what is measured; None where that is unknown or never."""

    rule: AlertRule
    filesystem: str
    project: str
    measure: str
    threshold: float
    value: float | None

    def state_after(self, before: str) -> str:
        """Above or below, given which it was: it takes more to come down than to stay."""
        if self.value is None:
            return BELOW
        if self.measure.startswith("days"):
            margin = max(HYSTERESIS_POINTS, HYSTERESIS_DAYS_PART * self.threshold)
            limit = self.threshold + (margin if before == ABOVE else 0)
            return ABOVE if self.value <= limit else BELOW
        limit = self.threshold - (HYSTERESIS_POINTS if before == ABOVE else 0)
        return ABOVE if self.value >= limit else BELOW


def check(
    database: Database,
    settings: AlertSettings,
    *,
    dry_run: bool = False,
    deliver: Callable[[Notice, AlertSettings], None] | None = None,
) -> list[Row]:
    """Compare projects with the rules and tell whoever is to be told; one row a notice.

    `state` says what was crossed, `delivered` if it is told now, `error` why not. A dry run
    changes nothing and tells nobody.

    Raises:
        ConflictError: another check is running.
        UnavailableError: the database went away.
    """
    deliver = deliver or notices.Courier().deliver
    with advisory_lock(
        database, NIGHTLY_CLASS, ALERTS_CHECK, "alerts are being checked; wait for it"
    ):
        with database.transaction() as session:
            due = update(session, settings, db.utc_now())
            if dry_run:
                session.rollback()
        if dry_run:
            return [_row(notice, delivered=False) for notice in due]
        return [_tell(database, settings, notice, deliver) for notice in due]


def update(session: orm.Session, settings: AlertSettings, now: datetime) -> list[Notice]:
    """Bring `alert_state` up to the current scans; returns the notices that are due."""
    known = {
        (row.rule, row.filesystem, row.project, row.measure): row
        for row in session.scalars(sa.select(AlertState))
    }
    due = []
    for reading in readings(session, settings, now):
        rule = reading.rule
        key = (rule.name, reading.filesystem, reading.project, reading.measure)
        row = known.pop(key, None)
        receivers = notices.receivers(rule)
        if row is None:
            if reading.state_after(BELOW) == BELOW:
                continue
            row = AlertState(
                rule=key[0], filesystem=key[1], project=key[2], measure=key[3],
                state=BELOW, since=now, pending=[],
            )  # fmt: skip
            session.add(row)
        # Who was not told of the last crossing needs not be told that it is over.
        untold = set(row.pending)
        row.pending = [name for name in receivers if name in untold]
        row.value, row.threshold = reading.value, reading.threshold
        state = reading.state_after(row.state)
        if state != row.state:
            row.state, row.since, row.notified_at = state, now, None
            row.pending = [name for name in receivers if name not in untold]
        due += [_notice(row, receiver, rule) for receiver in row.pending]
    scanned = {row["filesystem"] for row in queries.scanned(session, Selection())}
    for row in known.values():
        # Its rule or project is gone, unless the scans are.
        if row.filesystem in scanned:
            session.delete(row)
    session.flush()
    return due


def readings(session: orm.Session, settings: AlertSettings, now: datetime) -> list[Reading]:
    """What every rule says of every project of the current scans."""
    try:
        rows = queries.projects(session, EVERYTHING, Selection())
    except NotFoundError:  # nothing was scanned yet
        return []
    forecasts = {}
    if any(rule.days_to_full is not None for rule in settings.rule):
        forecasts = history.all_forecasts(session, [row["project"] for row in rows])
    found = []
    for rule in settings.rule:
        for row in rows:
            if not fnmatch.fnmatchcase(row["project"], rule.project):
                continue
            days = {
                measure: trend.days_left(forecast, now)
                for measure, forecast in forecasts.get(
                    (row["filesystem"], row["project"]), {}
                ).items()
            }
            for measure, threshold, value in (
                ("bytes_percent", rule.bytes_percent, _percent(row, "alloc_bytes", "quota_bytes")),
                ("inodes_percent", rule.inodes_percent, _percent(row, "inodes", "quota_inodes")),
                ("days_to_full_bytes", rule.days_to_full, days.get("bytes")),
                ("days_to_full_inodes", rule.days_to_full, days.get("inodes")),
            ):
                if threshold is not None:
                    found.append(
                        Reading(rule, row["filesystem"], row["project"], measure, threshold, value)
                    )
    return found


def states(session: orm.Session) -> list[Row]:
    """Every threshold that was ever crossed; those that are, first, the oldest of them first."""
    rows = session.scalars(
        sa.select(AlertState).order_by(
            AlertState.state, AlertState.since, AlertState.project, AlertState.measure
        )
    )
    names = [column.name for column in AlertState.__table__.columns]
    return [{name: getattr(row, name) for name in names} for row in rows]


def _tell(
    database: Database,
    settings: AlertSettings,
    notice: Notice,
    deliver: Callable[[Notice, AlertSettings], None],
) -> Row:
    try:
        deliver(notice, settings)
    except DatamgrError as error:
        log.info("%s is not told about %s: %s", notice.receiver, notice.id, error)
        return _row(notice, delivered=False, error=str(error))
    with database.transaction() as session:
        row = session.get(AlertState, notice.key, with_for_update=True)
        if row is not None:
            row.pending = [name for name in row.pending if name != notice.receiver]
            row.notified_at = db.utc_now()
    return _row(notice, delivered=True)


def _notice(row: AlertState, receiver: str, rule: AlertRule) -> Notice:
    key = (row.rule, row.filesystem, row.project, row.measure)
    return Notice(key, receiver, rule, row.state, row.value, row.threshold, row.since)


def _row(notice: Notice, *, delivered: bool, error: str | None = None) -> Row:
    return {**notice.body(), "receiver": notice.receiver, "delivered": delivered, "error": error}


def _percent(row: Row, used: str, quota: str) -> float | None:
    """Not rounded: 89.999 % is below 90 %."""
    return 100 * row[used] / row[quota] if row[quota] else None
