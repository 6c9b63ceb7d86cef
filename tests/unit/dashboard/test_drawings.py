"""Where the trend, the map and the cells of files end up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import choices, downloads, treemap, trend_chart
from datamgr.errors import InvalidError
from scanners import leaders, trend
from scanners.trend import Point

START = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1 << 30


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=60))
def test_a_map_is_filled_without_overlap(values: list[int]) -> None:
    """The areas are as the values are, up to what is too small to see."""
    tiles = treemap.tiles(sorted(values, reverse=True))
    if sum(values) == 0:
        assert tiles == []
        return
    assert sum(tile.width * tile.height for tile in tiles) == pytest.approx(10_000, rel=1e-3)
    for number, one in enumerate(tiles):
        assert one.x >= 0
        assert one.x + one.width <= 100.01
        assert one.y + one.height <= 100.01
        for other in tiles[:number]:
            apart = (
                one.x >= other.x + other.width - 0.01
                or other.x >= one.x + one.width - 0.01
                or one.y >= other.y + other.height - 0.01
                or other.y >= one.y + one.height - 0.01
            )
            assert apart


def _chart(used: list[int], quota: int | None) -> trend_chart.Chart | None:
    rows = [
        {"scanned_at": START + timedelta(days=day), "alloc_bytes": value}
        for day, value in enumerate(used)
    ]
    points = [Point(row["scanned_at"], row["alloc_bytes"]) for row in rows]
    return trend_chart.of(rows, "alloc_bytes", quota, trend.forecast(points, quota))


def test_a_line_goes_from_the_first_scan_to_the_last_and_on() -> None:
    """1 to 5 GiB in 4 days; half as many days ahead, so 7 GiB then; the scale ends at 8 GiB."""
    chart = _chart([GIB * n for n in range(1, 6)], 6 * GIB)
    assert chart is not None
    assert chart.end - chart.start == timedelta(days=6)
    assert chart.used.split()[0] == "0.0,262.5"
    assert chart.ahead == "666.7,112.5 1000.0,37.5"
    assert chart.quota == 25.0
    assert [line.label for line in chart.lines][-1] == "8.0 GiB"


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert _chart([GIB], GIB) is None
    far = _chart([GIB] * 5, 100 * GIB)
    assert far is not None
    assert far.quota is None
    assert far.ahead is None
    empty = _chart([0] * 5, None)
    assert empty is not None


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (b"-2+3", "'-2+3"),
        ("\t=1", "\\t=1"),
        ("plain", "plain"),
        (-5, "-5"),
        (None, '""'),
        (START, "2026-01-01T00:00:00Z"),
    ],
)
def test_a_cell_is_no_formula(value: Any, cell: str) -> None:
    body = bytes(downloads.csv("x", ["user"], [{"user": value}]).body).decode()
    assert body == f"user\r\n{cell}\r\n"


@given(st.binary(max_size=300).filter(lambda path: b"\0" not in path))
def test_a_path_travels_in_an_address_unchanged(path: bytes) -> None:
    text = choices.encode_path(b"/" + path)
    assert text.isascii()
    assert not set(text) & set("+/=&?#%")
    assert choices.decode_path(text) == b"/" + path


@pytest.mark.parametrize("text", ["", "%", "ü", "Zm9v", "L2E=x", "A"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        choices.decode_path(text)


def test_innermost_directories_push_out_those_around_them() -> None:
    paths = [b"/p/a", b"/p/a/b", b"/p/a/b/c", b"/p/ab", b"/p/a/d", b"/p/e"]
    found = leaders.innermost([{"path": path} for path in paths], 3)
    assert [row["path"] for row in found] == [b"/p/a/b/c", b"/p/ab", b"/p/a/d"]
