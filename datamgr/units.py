"""Sizes, counts and durations as people write and read them."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from datamgr.errors import InvalidError

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:B|([KMGTPE])(iB|B)?)?", re.IGNORECASE)
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w|m|y)?", re.IGNORECASE)
_SPAN_S = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "m": 2592000, "y": 31536000}
MAX_BIGINT = 2**63 - 1


def parse_bytes(text: str) -> int:
    """`60T`, `1.5 TiB`, `60 TB`, `1000`: bytes. `T` and `TiB` are 1024^4, `TB` is 1000^4.

    Source: GNU coreutils manual, "Block size".

    Raises:
        InvalidError: no size, or larger than a database bigint holds.
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise InvalidError(f"{text!r} is no size; write it like 60T, 1.5TiB or 1000")
    base = 1000 if (match[3] or "").upper() == "B" else 1024
    exponent = " KMGTPE".index((match[2] or " ").upper())
    return _within_bigint(text, Decimal(match[1]) * base**exponent)


def parse_count(text: str) -> int:
    """`40M`, `1.5k`, `1000`: a number of inodes. Prefixes are decimal (1k = 1000).

    Raises:
        InvalidError: no count.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise InvalidError(f"{text!r} is no count; write it like 40M, 1.5k or 1000")
    factor = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}[match[2].lower()]
    return _within_bigint(text, Decimal(match[1]) * factor)


def parse_duration_s(text: str) -> float:
    """`90s`, `5min`, `30d`, `1y`: seconds. `m` is 30 days and `y` 365 days.

    Raises:
        InvalidError: no duration.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise InvalidError(f"{text!r} is no duration; write it like 90s, 5min, 30d or 1y")
    return float(match[1]) * _SPAN_S[(match[2] or "s").lower()]


def _within_bigint(text: str, value: Decimal) -> int:
    if value > MAX_BIGINT:
        raise InvalidError(f"{text!r} is out of range")
    return int(value)


def format_bytes(size: int | None) -> str:
    """A size in binary units, such as `1.5 TiB`; a dash for None."""
    if size is None:
        return "-"
    value, sign = abs(float(size)), "-" if size < 0 else ""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1023.95 or unit == "EiB":
            digits = 0 if unit == "B" or value >= 99.95 else 1
            return f"{sign}{value:.{digits}f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_count(count: int | None) -> str:
    """A count with thin groups of three, such as `1 234 567`; a dash for None."""
    return "-" if count is None else f"{count:,}".replace(",", " ")


def format_percent(part: int, whole: int | None) -> str:
    """How much of a quota is used, such as `83.1 %`; a dash without a quota."""
    return "-" if not whole else f"{100 * part / whole:.1f} %"


def format_age(age_s: float | None) -> str:
    """How long ago, in the one unit that says it: `3 d`, `5 months`, `2.1 years`."""
    if age_s is None:
        return "-"
    if age_s < 0:
        return "in the future"
    for limit, size, unit in ((3600, 60, "min"), (86400, 3600, "h"), (60 * 86400, 86400, "d")):
        if age_s < limit:
            return f"{int(age_s // size)} {unit}"
    if age_s < 2 * 31536000:
        return f"{int(age_s // 2592000)} months"
    return f"{age_s / 31536000:.1f} years"


def format_time(when: datetime | None) -> str:
    """A time in UTC to the second, ISO 8601; a dash for None."""
    return "-" if when is None else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
