"""The use of a project over time as a line, with its quota and where it is going."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from datamgr import units
from scanners.queries import Row
from scanners.trend import Forecast

# The drawing's own units, of which the page makes what fits.
WIDTH, HEIGHT = 1000, 300
LINES = 4
# A quota so many times the use would press the line to the ground; it is told in words.
FAR_QUOTA = 4
AHEAD = timedelta(days=90)
# Points nearer than this in the drawing cannot be told apart.
MOST_POINTS = 250
_STEPS = (1, 2, 4, 6, 8, 10, 16, 20, 40, 60, 80, 100, 160, 200, 400, 600, 800, 1000)


@dataclass(frozen=True)
class Line:
    """A grid line: `y` in percent from the top, and its label."""

    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    """What is drawn: polylines in WIDTH × HEIGHT, lines in percent; None is not drawn."""

    used: str
    ahead: str | None
    quota: float | None
    lines: tuple[Line, ...]
    start: datetime
    end: datetime
    last: float


def of(rows: Sequence[Row], column: str, quota: int | None, forecast: Forecast) -> Chart | None:
    """The chart of a series, oldest first; None for less than two scans."""
    if len(rows) < 2 or rows[-1]["scanned_at"] <= rows[0]["scanned_at"]:
        return None
    start, last = rows[0]["scanned_at"], rows[-1]["scanned_at"]
    growing = forecast.slope is not None and forecast.slope.per_day > 0
    end = last + min(AHEAD, (last - start) / 2) if growing else last
    used_last = rows[-1][column]
    ahead = used_last
    if growing and forecast.slope:
        ahead = used_last + forecast.slope.per_day * (end - last).total_seconds() / 86400
    most = max([ahead, *(row[column] for row in rows)])
    near = quota if quota and quota <= FAR_QUOTA * max(most, 1) else None
    show = units.format_bytes if column == "alloc_bytes" else units.format_count
    top = _ceiling(max(most, near or 0, 1) * 1.04, 1024 if column == "alloc_bytes" else 1000)
    place = _placing(start, end, top)
    step = -(-len(rows) // MOST_POINTS)
    kept = [*rows[:-1][::step], rows[-1]]
    return Chart(
        used=" ".join(place(row["scanned_at"], row[column]) for row in kept),
        ahead=f"{place(last, used_last)} {place(end, ahead)}" if growing else None,
        quota=None if near is None else round(100 * (1 - near / top), 2),
        lines=tuple(
            Line(round(100 * (1 - part / LINES), 2), show(round(top * part / LINES)))
            for part in range(LINES + 1)
        ),
        start=start,
        end=end,
        last=round(100 * (last - start) / (end - start), 2),
    )


def _placing(start: datetime, end: datetime, top: float) -> Callable[[datetime, float], str]:
    span_s = (end - start).total_seconds()

    def place(at: datetime, used: float) -> str:
        x = WIDTH * (at - start).total_seconds() / span_s
        return f"{x:.1f},{HEIGHT * (1 - used / top):.1f}"

    return place


def _ceiling(most: float, base: int) -> float:
    """The next round number above."""
    unit = 1.0
    while most >= unit * base:
        unit *= base
    return unit * next(step for step in (*_STEPS, base) if unit * step >= most)
