"""Which bar stands for a number: how long it is and which colour it has."""

from dataclasses import dataclass

from scanners import ages
from scanners.queries import Row

NEAR_PERCENT = 90.0
# Shorter bars could not be told from nothing.
VISIBLE_PERCENT = 0.6


@dataclass(frozen=True)
class Bar:
    """A horizontal bar: `width` in percent of its track, `tone` as the style sheet names colours.

    A `capped` bar stands for more than its track holds, and is marked at its end.
    """

    width: float
    tone: str
    capped: bool = False


def of_quota(used: int, limit: int | None, biggest: int) -> Bar:
    """Usage against a quota; without one, against the biggest usage on the page.

    Tones: `ok`, `near` (from NEAR_PERCENT), `over` (above 100 percent), `plain` without a quota.
    """
    if not limit:
        return Bar(_width(used, biggest), "plain")
    percent = 100 * used / limit
    tone = "over" if percent > 100 else "near" if percent >= NEAR_PERCENT else "ok"
    return Bar(_width(used, limit), tone, capped=percent > 100)


def of_share(value: int, biggest: int) -> Bar:
    """A value against the biggest one of its list."""
    return Bar(_width(value, biggest), "share")


def of_age(value: int, biggest: int, age_s: float | None) -> Bar:
    """A value against the biggest one, coloured by age: `age-0` (new) … `age-6`, or `age-none`."""
    return Bar(_width(value, biggest), age_tone(ages.bin_of(age_s)))


def of_bin(value: int, biggest: int, index: int) -> Bar:
    """A value of the age histogram, in the colour of its bin."""
    return Bar(_width(value, biggest), age_tone(index))


def of_change(value: int, biggest: int) -> Bar:
    """A change against the biggest one, up or down; the tone says which."""
    return Bar(_width(abs(value), biggest), "shrunk" if value < 0 else "grown")


def with_shares(rows: list[Row]) -> list[Row]:
    """Rows of totals, each with its bar and its percent of the whole."""
    total = sum(row["alloc_bytes"] for row in rows)
    biggest = max((row["alloc_bytes"] for row in rows), default=0)
    for row in rows:
        row["bar"] = of_share(row["alloc_bytes"], biggest)
        row["percent"] = percent(row["alloc_bytes"], total)
    return rows


def percent(part: int, whole: int) -> float | None:
    """A part in percent; None of nothing."""
    return 100 * part / whole if whole else None


def age_tone(index: int | None) -> str:
    """The colour of an age bin."""
    return "age-none" if index is None else f"age-{index}"


def _width(value: int, whole: int) -> float:
    if value <= 0 or whole <= 0:
        return 0.0
    return round(min(100.0, max(VISIBLE_PERCENT, 100 * value / whole)), 2)
