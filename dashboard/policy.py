"""What a policy of a managed root would do now; nothing is done.

Which files fit is of the newest scan, their state is what tiering knows now.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dashboard import policy_files
from dashboard.policy_files import Named, Reader
from datamgr import owners
from datamgr.config_tier import PolicySettings
from scanners import ages
from scanners.queries import Row
from tiering.scanned import State

# Looked at for a page; the command looks at all.
MOST_FILES = 200_000
SHOWN = 50


K = TypeVar("K")


@dataclass
class Amounts(Generic[K]):
    """Files, bytes of their content and on disk, by anything."""

    files: Counter[K] = field(default_factory=Counter)
    size_bytes: Counter[K] = field(default_factory=Counter)
    alloc_bytes: Counter[K] = field(default_factory=Counter)

    def add(self, key: K, files: int, size_bytes: int, alloc_bytes: int) -> None:
        """More of it."""
        self.files[key] += files
        self.size_bytes[key] += size_bytes
        self.alloc_bytes[key] += alloc_bytes

    def rows(self, name: str) -> list[Row]:
        """One row for each key under this name, most bytes first."""
        rows = [
            {
                name: key,
                "files": files,
                "size_bytes": self.size_bytes[key],
                "alloc_bytes": self.alloc_bytes[key],
            }
            for key, files in self.files.items()
        ]
        return sorted(rows, key=lambda row: (-row["size_bytes"], row[name]))


@dataclass(frozen=True)
class Outcome:
    """What would be done: of `chosen` files, the `oldest` among them.

    `left`: what fits and would be left, by reason. `missing_bytes`: so much has to be freed; None
    without a target, or where the disk cannot be looked at. `until_day`: what is younger is left,
    for there is enough without it, in days since 1970. `is_whole`: all files were looked at.
    """

    of: Named
    chosen: Row
    projects: list[Row]
    users: list[Row]
    left: list[Row]
    oldest: list[Row]
    disk: tuple[int, int] | None
    missing_bytes: int | None
    until_day: int | None
    is_whole: bool


def outcome(reader: Reader, of: Named, most: int | None = MOST_FILES) -> Outcome:
    """What a policy would do to the files that the caller may see, of which it looks at `most`.

    Raises:
        NotFoundError, UnavailableError: as `policy_files.matching`.
    """
    by_day = Amounts[tuple[int, str, int]]()
    left = Amounts[str]()
    oldest: list[Row] = []
    files = policy_files.matching(reader, of)
    for row, state in itertools.islice(files, most):
        size = 1, row["size_bytes"], row["alloc_bytes"]
        if reason := _reason(of.policy, state):
            left.add(reason, *size)
            continue
        by_day.add((_day(row), row["project"], row["uid"]), *size)
        oldest.append(row | {"state": state})
        if len(oldest) > 100 * SHOWN:
            oldest = _oldest(oldest)
    is_whole = next(files, None) is None
    disk = _disk(of)
    missing, until = _target(of.policy, disk, by_day)
    projects, users = Amounts[str](), Amounts[str]()
    for key in by_day.files:
        day, project, uid = key
        size = by_day.files[key], by_day.size_bytes[key], by_day.alloc_bytes[key]
        if until is None or day <= until:
            projects.add(project, *size)
            users.add(owners.user_name(uid), *size)
        else:
            left.add("not needed for the target", *size)
    return Outcome(
        of=of,
        chosen={
            "files": projects.files.total(),
            "size_bytes": projects.size_bytes.total(),
            "alloc_bytes": projects.alloc_bytes.total(),
        },
        projects=projects.rows("project"),
        users=users.rows("user"),
        left=left.rows("reason"),
        oldest=[row for row in _oldest(oldest) if until is None or _day(row) <= until],
        disk=disk,
        missing_bytes=missing,
        until_day=until,
        is_whole=is_whole,
    )


def paths(reader: Reader, of: Named) -> Iterator[bytes]:
    """The paths of all that a policy would do something to, in the order of the scan.

    Raises:
        NotFoundError, UnavailableError: as `policy_files.matching`.
    """
    until = None if of.policy.free_share is None else outcome(reader, of, None).until_day
    for row, state in policy_files.matching(reader, of):
        if not _reason(of.policy, state) and (until is None or _day(row) <= until):
            yield row["path"]


def _reason(policy: PolicySettings, state: State) -> str | None:
    """Why a file that fits would be left as it is."""
    if policy.action == "put":
        return None if state.letter == "G" else "in the archive already"
    reasons = {
        "not in the archive, or changed since": state.letter == "G",
        "in the archive alone already": state.letter == "H",
        "pinned": state.pinned,
        "being worked on": state.busy,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _target(
    policy: PolicySettings, disk: tuple[int, int] | None, by_day: Amounts[tuple[int, str, int]]
) -> tuple[int | None, int | None]:
    """How much is missing, and the day up to which there is enough; None where all are needed."""
    if policy.free_share is None or disk is None:
        return None, None
    free, size = disk
    missing = max(0, int(policy.free_share * size) - free)
    freed: Counter[int] = Counter()
    for (day, _, _), alloc_bytes in by_day.alloc_bytes.items():
        freed[day] += alloc_bytes
    gained = 0
    for day in sorted(freed):
        if gained >= missing:
            return missing, day - 1
        gained += freed[day]
    return missing, None


def _disk(of: Named) -> tuple[int, int] | None:
    """Free on it, and its size, in bytes."""
    try:
        disk = os.statvfs(of.tier.root)
    except OSError:  # this account may not look at it
        return None
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _oldest(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["time_s"], row["path"]))[:SHOWN]


def _day(row: Row) -> int:
    day: int = row["time_s"] // ages.DAY_S
    return day
