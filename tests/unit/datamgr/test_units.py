"""Sizes, counts, durations: what people write and what they read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamgr import units
from datamgr.errors import InvalidError


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0), ("1000", 1000), ("1000B", 1000), ("1k", 1024), ("1K", 1024), ("1KiB", 1024),
        ("1kb", 1000), ("60T", 60 * 2**40), ("60TB", 60 * 10**12), ("1.5 TiB", 3 * 2**39),
        (" 2 G ", 2 * 2**30), ("0.5K", 512), ("7.9E", int(7.9 * 2**60) // 1024 * 1024),
        ("9223372036854775807", 2**63 - 1), ("1P", 2**50), ("1EB", 10**18),
    ],
)  # fmt: skip
def test_sizes_are_binary_unless_they_end_in_b(text: str, size_bytes: int) -> None:
    assert units.parse_bytes(text) == pytest.approx(size_bytes, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "T", "-1", "1,5T", "1 T B", "1TiBs", "0x10", "1e3", "ten", "1..2", "٣ٰT", "1\n2"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no size"):
        units.parse_bytes(text)


@pytest.mark.parametrize("text", ["8E", "9223372036854775808", "99999999999P"])
def test_sizes_beyond_a_bigint_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="out of range"):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1000", 1000), ("1.5k", 1500), ("40M", 40_000_000), ("2g", 2 * 10**9)],
)
def test_counts_are_decimal(text: str, count: int) -> None:
    assert units.parse_count(text) == count


@pytest.mark.parametrize("text", ["", "-1", "40T", "1 000", "1.2.3", "many"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no count"):
        units.parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5min", 300), ("2h", 7200), ("30d", 30 * 86_400), ("1w", 604_800),
     ("1m", 30 * 86_400), ("1y", 365 * 86_400), ("0.5d", 43_200)],
)  # fmt: skip
def test_durations_have_one_unit(text: str, seconds: float) -> None:
    assert units.parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1 day", "1h30min"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no duration"):
        units.parse_duration_s(text)


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (None, "-"), (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"),
        (10_240, "10.0 KiB"), (102_400, "100 KiB"), (1024**2 - 1, "1.0 MiB"),
        (3 * 2**39, "1.5 TiB"), (2**63 - 1, "8.0 EiB"), (-2048, "-2.0 KiB"), (2**70, "1024 EiB"),
    ],
)  # fmt: skip
def test_sizes_are_shown_in_binary_units(size_bytes: int | None, shown: str) -> None:
    assert units.format_bytes(size_bytes) == shown


@given(st.integers(0, 2**63 - 1))
def test_a_shown_size_reads_as_nearly_the_same(size_bytes: int) -> None:
    """Three digits at least, so half a per cent, or five of the hundred of 1.0."""
    shown = units.format_bytes(size_bytes)
    if shown != "8.0 EiB":  # which is one more than a bigint holds
        assert units.parse_bytes(shown) == pytest.approx(size_bytes, rel=0.05)


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(831, 1000, "83.1 %"), (3, 2, "150.0 %"), (1, None, "-"), (1, 0, "-"), (0, 5, "0.0 %")],
)
def test_percentages_go_beyond_a_hundred(part: int, whole: int | None, shown: str) -> None:
    assert units.format_percent(part, whole) == shown


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [
        (None, "-"), (-1, "in the future"), (0, "0 min"), (59, "0 min"), (60, "1 min"),
        (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (86_400, "1 d"),
        (60 * 86_400 - 1, "59 d"), (60 * 86_400, "2 months"), (2 * 31_536_000, "2.0 years"),
    ],
)  # fmt: skip
def test_ages_have_the_one_unit_that_says_it(age_s: float | None, shown: str) -> None:
    assert units.format_age(age_s) == shown


def test_times_are_in_utc_to_the_second() -> None:
    berlin = timezone(timedelta(hours=2))
    assert units.format_time(datetime(2030, 1, 1, 1, 30, 5, 999, berlin)) == "2029-12-31T23:30:05Z"
    assert units.format_time(datetime(2030, 1, 1, tzinfo=UTC)) == "2030-01-01T00:00:00Z"
    assert units.format_time(None) == "-"


def test_counts_are_grouped_by_thousands() -> None:
    assert units.format_count(1_234_567).split() == ["1", "234", "567"]
    assert units.format_count(None) == "-"
