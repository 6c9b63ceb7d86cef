"""The forecast on series with known answers. Day 0 is 2026-01-01, a unit is one byte."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from scanners import trend
from scanners.trend import Forecast, Point, State

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def series(*used: float, days: list[float] | None = None) -> list[Point]:
    times = days if days is not None else list(range(len(used)))
    return [Point(day(at), round(value)) for at, value in zip(times, used, strict=True)]


def linear(number: int, per_day: float, first: float = 1000) -> list[Point]:
    return series(*(first + per_day * n for n in range(number)))


def noisy(number: int, per_day: float, sigma: float, seed: int) -> list[Point]:
    chance = random.Random(seed)
    return series(*(10_000 + per_day * n + chance.gauss(0, sigma) for n in range(number)))


def test_a_straight_line_is_followed_exactly() -> None:
    """1000 + 10 a day; after day 9 there are 1090, and 2000 are full (2000-1090)/10 = 91 later."""
    found = trend.forecast(linear(10, 10), 2000)
    assert found.state is State.GROWING
    assert found.slope == trend.Slope(10, 10, 10)
    assert found.full_at == found.earliest_at == found.latest_at == day(9 + 91)
    assert trend.sentence(found, day(9)) == (
        "full in about 91 days (2026-04-11), between 91 and 91 days"
    )


def test_days_count_from_now_and_not_from_the_last_scan() -> None:
    found = trend.forecast(linear(10, 10), 2000)
    assert trend.days_left(found, day(39)) == 61
    assert trend.days_left(found, day(500)) == 0


def test_one_outlier_does_not_move_the_line() -> None:
    """A scan that saw ten times as much, or nothing at all, is one of 30."""
    for wrong in (13_000, 0):
        points = linear(30, 10)
        points[17] = Point(points[17].at, wrong)
        found = trend.slope(points)
        assert found is not None
        assert found.per_day == pytest.approx(10, abs=0.01)
        assert 9 < found.low <= 10 <= found.high < 11


def test_a_clean_up_is_left_out_of_the_growth() -> None:
    """10 a day, half of it removed after day 19, 10 a day again: from 645, 2000 take 135.5."""
    points = linear(20, 10, 1000) + [Point(day(20 + n), 595 + 10 * n) for n in range(6)]
    assert [len(part) for part in trend.segments(points)] == [20, 6]
    found = trend.forecast(points, 2000)
    assert found.slope == trend.Slope(10, 10, 10)
    assert found.full_at == day(25 + (2000 - 645) / 10)


def test_small_falls_are_noise_and_no_clean_ups() -> None:
    points = noisy(60, 20, 30, seed=1)
    assert len(trend.segments(points)) == 1


@pytest.mark.parametrize("used", [0, 5_000_000])
def test_what_is_constant_does_not_grow(used: int) -> None:
    found = trend.forecast(series(*[used] * 12), 10**7)
    assert found.state is State.NOT_GROWING
    assert found.slope == trend.Slope(0, 0, 0)
    assert trend.sentence(found, day(12)) == "not growing"


def test_what_shrinks_does_not_grow() -> None:
    assert trend.forecast(linear(12, -10), 10**7).state is State.NOT_GROWING


def test_noise_alone_is_seldom_taken_for_growth() -> None:
    """At 95 % confidence, in both directions, about 2.5 % of constant series seem to grow."""
    grown = sum(
        trend.forecast(noisy(40, 0, 100, seed), 10**6).state is not State.NOT_GROWING
        for seed in range(200)
    )
    assert grown <= 0.06 * 200


def test_the_interval_holds_the_true_slope_in_about_95_of_100_series() -> None:
    held = 0
    for seed in range(200):
        found = trend.slope(noisy(30, 50, 200, seed))
        assert found is not None
        held += found.low <= 50 <= found.high
    assert 0.90 * 200 <= held <= 0.99 * 200


def test_irregular_spacing_and_several_scans_a_day_change_nothing() -> None:
    days = [0, 0.1, 0.2, 1, 1.5, 9, 9, 20, 41, 41.25]
    points = series(*(1000 + 100 * at for at in days), days=days)
    found = trend.slope(points)
    assert found is not None
    assert found.per_day == pytest.approx(100)


def test_scans_at_one_moment_say_nothing() -> None:
    assert trend.slope(series(1, 2, 3, 4, days=[0, 0, 0, 0])) is None


@pytest.mark.parametrize("number", [0, 1, 3])
def test_fewer_than_four_scans_are_too_few(number: int) -> None:
    found = trend.forecast(linear(number, 10), 10**6)
    assert found == Forecast(State.TOO_FEW)
    assert trend.sentence(found, day(0)) == "too few scans (needs 4)"


def test_full_counts_from_the_scan_since_which_it_is_full() -> None:
    """Full on day 1, cleaned up on day 2, full again since day 3."""
    points = series(10, 100, 50, 120, 130)
    found = trend.forecast(points, 100)
    assert (found.state, found.full_at) == (State.FULL, day(3))
    assert trend.sentence(found, day(9)) == "full already since 2026-01-04"
    assert trend.days_left(found, day(9)) == 0
    assert trend.forecast(points[:2], 100).state is State.FULL  # needs no four scans


@pytest.mark.parametrize("quota", [None, 0])
def test_without_a_quota_nothing_can_be_full(quota: int | None) -> None:
    found = trend.forecast(linear(10, 10), quota)
    assert found == Forecast(State.NO_QUOTA, trend.Slope(10, 10, 10))
    assert trend.sentence(found, day(9)) == "no quota"


def test_what_takes_more_than_ten_years_is_not_dated() -> None:
    """(10^18 - 1090) / 10 days are beyond any calendar."""
    found = trend.forecast(linear(10, 10), 10**18)
    assert (found.state, found.full_at) == (State.FAR, None)
    assert trend.sentence(found, day(9)) == "not full within ten years at this rate"


def test_an_interval_that_reaches_no_growth_has_no_latest_day() -> None:
    """Bursts with rests between: the median grows, the lower end is a rest."""
    found = trend.forecast(series(0, 0, 0, 100, 100, 100, 200, 200), 1000)
    assert (found.state, found.slope and found.slope.low) == (State.GROWING, 0)
    assert found.latest_at is None
    assert trend.sentence(found, day(7)).endswith("days at the earliest")


def test_only_the_last_90_days_count_and_at_least_four_scans() -> None:
    """A year of standstill, then 100 days of 10 a day: the forecast knows the growth only."""
    points = series(*[1000] * 365, *(1000 + 10 * n for n in range(100)))
    assert trend.recent(points)[0].at == day(464 - 90)
    found = trend.forecast(trend.recent(points), 10_000)
    assert found.slope == trend.Slope(10, 10, 10)
    yearly = series(*range(10), days=[365 * n for n in range(10)])
    assert trend.recent(yearly) == yearly[-4:]
    assert trend.recent([]) == []


def test_many_scans_are_thinned_and_the_newest_stays() -> None:
    points = series(*range(1000), days=[n / 24 for n in range(1000)])
    thinned = trend.recent(points)
    assert len(thinned) == 100
    assert thinned[-1] == points[-1]
