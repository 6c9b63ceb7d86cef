"""When will a quota be full? A robust straight line through a project's scans. Pure functions."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import combinations, pairwise
from statistics import NormalDist, median

MIN_SCANS = 4
# Growth is that of the last 90 days: earlier habits say little about the coming months.
WINDOW = timedelta(days=90)
# Pairs of scans grow with the square of their number; more than this adds nothing.
MAX_SCANS = 100
HORIZON = timedelta(days=3650)
CONFIDENCE = 0.95
DAY_S = 86400

# A fall is a clean-up, not noise, if it takes this part of what was there, and this many times
# what usually changes between two scans.
CLEAN_UP_PART = 0.1
CLEAN_UP_FACTOR = 5


@dataclass(frozen=True)
class Point:
    """What a scan found in use, in bytes or inodes."""

    at: datetime
    used: int


@dataclass(frozen=True)
class Slope:
    """Growth a day: the median of all pairs of scans, and its 95 % confidence interval."""

    per_day: float
    low: float
    high: float


class State(StrEnum):
    """What can be said of a quota."""

    GROWING = "growing"
    NOT_GROWING = "not growing"
    FAR = "far"
    FULL = "full"
    TOO_FEW = "too few scans"
    NO_QUOTA = "no quota"


@dataclass(frozen=True)
class Forecast:
    """When a quota is full if growth goes on; a time that is None is beyond ten years.

    With state FULL, `full_at` is the first scan of those that found it full without a break.
    """

    state: State
    slope: Slope | None = None
    full_at: datetime | None = None
    earliest_at: datetime | None = None
    latest_at: datetime | None = None


def forecast(points: Sequence[Point], quota: int | None) -> Forecast:
    """The forecast from all `points`, which are in the order of time; see `recent` for a window.

    From what the last scan found, growth is taken to go on by the `slope`. A slope whose interval
    reaches below zero is no growth: the scans do not tell it from noise.
    """
    if points and quota and points[-1].used >= quota:
        return Forecast(State.FULL, slope(points), _full_since(points, quota))
    growth = slope(points)
    if growth is None:
        return Forecast(State.TOO_FEW)
    if not quota:
        return Forecast(State.NO_QUOTA, growth)
    if growth.per_day <= 0 or growth.low < 0:
        return Forecast(State.NOT_GROWING, growth)
    last, left = points[-1], quota - points[-1].used
    full_at, earliest_at, latest_at = (
        _after(last.at, left, per_day) for per_day in (growth.per_day, growth.high, growth.low)
    )
    state = State.FAR if full_at is None else State.GROWING
    return Forecast(state, growth, full_at, earliest_at, latest_at)


def recent(points: Sequence[Point]) -> list[Point]:
    """The scans of the last 90 days before the newest, at least four, evenly thinned to 100."""
    if not points:
        return []
    since = points[-1].at - WINDOW
    window = [point for point in points if point.at >= since]
    if len(window) < MIN_SCANS:
        window = list(points[-MIN_SCANS:])
    step = math.ceil(len(window) / MAX_SCANS)
    return window[::-1][::step][::-1]


# A forecast is a median of thousands of slopes, and stays the same until the next scan.
@lru_cache(maxsize=4096)
def forecast_recent(points: tuple[tuple[datetime, int], ...], quota: int | None) -> Forecast:
    """The forecast from the `recent` ones of what scans found: when, and how much was in use."""
    return forecast(recent([Point(at, used) for at, used in points]), quota)


def slope(points: Sequence[Point]) -> Slope | None:
    """The Theil-Sen estimate of growth a day; None with fewer than four scans.

    It is the median of the slopes between all pairs of scans, so that a few wrong or unusual
    ones do not move it. Pairs across a clean-up (see `segments`) are left out, as pairs across
    seasons are in the seasonal Kendall estimate; the interval is given by the order statistics
    of the slopes and the variance of Kendall's S, summed over the segments.

    Source: P. K. Sen, J. Am. Stat. Assoc. 63 (1968) 1379; R. M. Hirsch, J. R. Slack and
    R. A. Smith, Water Resour. Res. 18 (1982) 107; R. O. Gilbert, Statistical Methods for
    Environmental Pollution Monitoring (1987), sections 16.5 and 17.3.
    """
    if len(points) < MIN_SCANS:
        return None
    parts = segments(points)
    start = points[0].at
    slopes = sorted(
        (later - used) / ((later_s - at_s) / DAY_S)
        for part in parts
        for (at_s, used), (later_s, later) in combinations(
            [((point.at - start).total_seconds(), point.used) for point in part], 2
        )
        if later_s > at_s
    )
    if not slopes:
        return None
    spread = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(sum(map(_variance, parts)))
    low = max(math.floor((len(slopes) - spread) / 2), 1)
    high = min(math.ceil((len(slopes) + spread) / 2) + 1, len(slopes))
    return Slope(median(slopes), slopes[low - 1], slopes[high - 1])


def segments(points: Sequence[Point]) -> list[list[Point]]:
    """The scans cut at clean-ups: between two cuts, use goes its usual way."""
    changes = [abs(b.used - a.used) for a, b in pairwise(points)]
    usual = median(changes) if changes else 0
    parts = [list(points[:1])]
    for before, after in pairwise(points):
        fall = before.used - after.used
        if fall > CLEAN_UP_PART * before.used and fall > CLEAN_UP_FACTOR * usual:
            parts.append([])
        parts[-1].append(after)
    return parts


def _variance(part: Sequence[Point]) -> float:
    """The variance of Kendall's S, corrected for ties. Source: Gilbert (1987), equation 16.2."""
    n = len(part)
    ties = Counter(point.used for point in part).values()
    return (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18


def _after(at: datetime, left: int, per_day: float) -> datetime | None:
    if per_day <= 0 or left / per_day > HORIZON.days:
        return None
    return at + timedelta(days=left / per_day)


def _full_since(points: Sequence[Point], quota: int) -> datetime:
    since = points[-1].at
    for point in reversed(points):
        if point.used < quota:
            break
        since = point.at
    return since


def days_left(found: Forecast, now: datetime) -> float | None:
    """Days from now until the quota is full, 0 if it is; None if it is not going to be."""
    if found.state is State.FULL:
        return 0
    if found.state is not State.GROWING or found.full_at is None:
        return None
    return max((found.full_at - now).total_seconds() / DAY_S, 0)


def sentence(found: Forecast, now: datetime) -> str:
    """The forecast as people read it."""
    if found.state is State.FULL:
        return f"full already since {_date(found.full_at)}"
    if found.state is State.TOO_FEW:
        return f"too few scans (needs {MIN_SCANS})"
    if found.state is State.FAR:
        return "not full within ten years at this rate"
    left = days_left(found, now)
    if left is None:
        return str(found.state)
    text = f"full in about {left:.0f} days ({_date(found.full_at)})"
    earliest, latest = (_days(when, now) for when in (found.earliest_at, found.latest_at))
    if latest is None:
        return f"{text}, in {earliest} days at the earliest"
    return f"{text}, between {earliest} and {latest} days"


def _days(when: datetime | None, now: datetime) -> int | None:
    return None if when is None else max(round((when - now).total_seconds() / DAY_S), 0)


def _date(when: datetime | None) -> str:
    return "-" if when is None else when.date().isoformat()
