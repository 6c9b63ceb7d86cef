"""The bins in which ages of files are counted and coloured."""

from dataclasses import dataclass

DAY_S = 86_400
BASES = ("atime", "mtime", "ctime")


@dataclass(frozen=True)
class AgeBin:
    """Ages below `below_s` seconds that no earlier bin takes; the last bin takes the rest."""

    name: str
    below_s: int | None


# A time in the future counts as new.
BINS = (
    AgeBin("up to a week", 7 * DAY_S),
    AgeBin("up to a month", 30 * DAY_S),
    AgeBin("up to 3 months", 90 * DAY_S),
    AgeBin("up to 6 months", 180 * DAY_S),
    AgeBin("up to a year", 365 * DAY_S),
    AgeBin("up to 2 years", 730 * DAY_S),
    AgeBin("over 2 years", None),
)


def bin_of(age_s: float | None) -> int | None:
    """Index of the bin that an age belongs to; None for an unknown age."""
    if age_s is None:
        return None
    return next(i for i, b in enumerate(BINS) if b.below_s is None or age_s < b.below_s)
