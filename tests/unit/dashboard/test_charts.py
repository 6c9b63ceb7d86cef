"""Lengths and colours of bars, and words beside them."""

import pytest

from dashboard import charts, rendering
from dashboard.charts import Bar

DAY_S = 86_400


@pytest.mark.parametrize(
    ("used", "limit", "expected"),
    [
        (0, 200, Bar(0.0, "ok")),
        (1, 10**6, Bar(0.6, "ok")),  # still visible
        (90, 200, Bar(45.0, "ok")),
        (180, 200, Bar(90.0, "near")),
        (200, 200, Bar(100.0, "near")),
        (264, 200, Bar(100.0, "over", capped=True)),
        (50, None, Bar(12.5, "plain")),  # of the biggest, 400
        (50, 0, Bar(12.5, "plain")),
    ],
)
def test_a_quota_bar_is_as_long_as_its_part(used: int, limit: int | None, expected: Bar) -> None:
    assert charts.of_quota(used, limit, biggest=400) == expected


def test_nothing_is_compared_with_nothing() -> None:
    assert charts.of_share(0, 0).width == 0


@pytest.mark.parametrize(
    ("age_s", "tone"),
    [
        (-60.0, "age-0"),
        (6.9 * DAY_S, "age-0"),
        (7 * DAY_S, "age-1"),
        (364 * DAY_S, "age-4"),
        (900 * DAY_S, "age-6"),
        (None, "age-none"),
    ],
)
def test_an_age_has_the_colour_of_its_bin(age_s: float | None, tone: str) -> None:
    assert charts.of_age(5, 10, age_s) == Bar(50.0, tone)


def test_a_change_has_a_direction() -> None:
    assert charts.of_change(-5, 10) == Bar(50.0, "shrunk")
    assert charts.of_change(10, 10) == Bar(100.0, "grown")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0.0, "0.0 %"),
        (0.04, "< 0.1 %"),
        (9.96, "10.0 %"),
        (82.4, "82 %"),
        (99.99, "99.9 %"),
        (100.0, "100.0 %"),
        (100.01, "100.1 %"),
        (132.2, "132 %"),
    ],
)
def test_a_percentage_never_hides_on_which_side_of_the_quota_it_is(
    value: float | None, words: str
) -> None:
    assert rendering.percent(value) == words


@pytest.mark.parametrize(
    ("age_s", "words"),
    [(-30, "new"), (20, "new"), (7200, "2 h"), (-5 * DAY_S, "in the future"), (None, "-")],
)
def test_a_file_that_changed_during_the_scan_is_new(age_s: float | None, words: str) -> None:
    assert rendering.age(age_s) == words


def test_names_and_paths_are_escaped() -> None:
    assert rendering.name(b"a\xff\n<b>") == "<bdi>a\\xff\\n&lt;b&gt;</bdi>"
    assert rendering.path("/a/\N{RIGHT-TO-LEFT OVERRIDE}<") == "<bdi>/<wbr>a/<wbr>\\u202e&lt;</bdi>"
